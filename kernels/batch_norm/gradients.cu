// What batch_norm's gradients add up over each channel of x [N, C, L]: sum(gy) and sum(gy (x - mean)),
// which are the gradients of bias and, times 1 / sqrt(variance + eps), of weight. Bound by memory: 8
// bytes an element.
//
//   _sequential   one thread passes over everything
//   (plain)       `workers` warps share a channel, and write what they found. A thread takes 16 numbers
//                 of both at a time (8, one by one, where rows do not divide into float4), so that as
//                 many loads are under way; then its warp's lanes put theirs together in a tree
//   batch_norm_gradients   puts the workers' together, a warp for each channel

// A thread's way through a channel: the rows are cut into tiles of `lanes` units, each of W numbers,
// and 32 / lanes tiles are a warp's at a time.
struct Walk {
    int n, part, step_n, step_part, parts, at, lanes, units;

    __device__ inline Walk(int L, int W, int lanes, int worker, int workers, int lane)
        : lanes(lanes), units(L / W)
    {
        const int rows = 32 / lanes, tile = worker * rows + lane / lanes;
        parts = (units + lanes - 1) / lanes;
        n = tile / parts, part = tile % parts;
        step_n = workers * rows / parts, step_part = workers * rows % parts;
        at = lane % lanes;
    }
    // The unit of row n that is this thread's; there is none where it is not below `units`.
    __device__ inline int unit() const { return part * lanes + at; }
    __device__ inline void next()
    {
        n += step_n;
        part += step_part;
        if (part >= parts) {
            part -= parts;
            n++;
        }
    }
};

template <int W>
__device__ inline void load(const float* from, float (&to)[W])
{
    if constexpr (W == 4) {
        const float4 v = *(const float4*)from;
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else {
        to[0] = *from;
    }
}

// gy, x [N, C, L], partial [C, workers, 2]: sums of gy, and of gy (x - mean)
extern "C" __global__ void batch_norm_sums_sequential(const float* gy, const float* x, const float* mean,
                                                      const float* low, float* partial, long long N,
                                                      long long C, long long L, long long wide,
                                                      long long lanes, long long workers,
                                                      long long has_low)
{
    for (long long c = 0; c < C; c++) {
        const float middle = mean[c], rest = has_low ? low[c] : 0;
        float sum = 0, dot = 0;
        for (long long n = 0; n < N; n++) {
            float row_sum = 0, row_dot = 0;
            for (long long i = (n * C + c) * L; i < (n * C + c + 1) * L; i++) {
                row_sum += gy[i];
                row_dot += gy[i] * (x[i] - middle - rest);
            }
            sum += row_sum;
            dot += row_dot;
        }
        partial[2 * c * workers] = sum;
        partial[2 * c * workers + 1] = dot;
    }
}

template <int K, int W>
__device__ inline void sums(const float* __restrict__ gy, const float* __restrict__ x, int N, int C,
                            int L, int c, Walk walk, float mean, float low, float& sum,
                            float& dot)
{
    while (walk.n < N) {
        float values[K][W] = {}, given[K][W] = {};
        bool there[K];
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int unit = walk.unit();
            there[k] = walk.n < N && unit < walk.units;
            if (there[k]) {
                const size_t i = ((size_t)walk.n * C + c) * L + unit * W;
                load<W>(x + i, values[k]);
                load<W>(gy + i, given[k]);
            }
            walk.next();
        }
        float part_sum = 0, part_dot = 0;
#pragma unroll
        for (int k = 0; k < K; k++)
#pragma unroll
            for (int w = 0; w < W; w++) {
                part_sum += given[k][w];
                part_dot += there[k] ? given[k][w] * (values[k][w] - mean - low) : 0;
            }
        sum += part_sum;
        dot += part_dot;
    }
}

// As many warps as channels times workers; `wide` numbers at a time, 1 or 4.
extern "C" __global__ void batch_norm_sums(const float* __restrict__ gy, const float* __restrict__ x,
                                           const float* __restrict__ mean, const float* __restrict__ low,
                                           float* __restrict__ partial, long long N, long long C,
                                           long long L, long long wide, long long lanes,
                                           long long workers, long long has_low)
{
    const unsigned warp = (blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x) / 32;
    const unsigned c = warp / (unsigned)workers, lane = threadIdx.x % 32;
    float sum = 0, dot = 0;
    if (c < C) {
        const Walk walk(L, wide, lanes, warp % (unsigned)workers, workers, lane);
        const float middle = mean[c], rest = has_low ? low[c] : 0;
        if (wide == 4) sums<4, 4>(gy, x, N, C, L, c, walk, middle, rest, sum, dot);
        else sums<8, 1>(gy, x, N, C, L, c, walk, middle, rest, sum, dot);
    }
    for (int step = 16; step; step /= 2) {
        sum += __shfl_down_sync(0xffffffffu, sum, step);
        dot += __shfl_down_sync(0xffffffffu, dot, step);
    }
    if (lane == 0 && c < C) {
        partial[2 * (size_t)warp] = sum;
        partial[2 * (size_t)warp + 1] = dot;
    }
}

// partial [C, workers, 2]; spread and the gradients of weight and bias [C]
extern "C" __global__ void batch_norm_gradients_sequential(const float* partial, const float* spread,
                                                           float* grad_weight, float* grad_bias,
                                                           long long C, long long workers,
                                                           long long is_var, float eps)
{
    for (long long c = 0; c < C; c++) {
        float sum = 0, dot = 0;
        for (long long worker = 0; worker < workers; worker++) {
            sum += partial[2 * (c * workers + worker)];
            dot += partial[2 * (c * workers + worker) + 1];
        }
        grad_weight[c] = dot * (is_var ? 1 / sqrtf(spread[c] + eps) : spread[c]);
        grad_bias[c] = sum;
    }
}

// A warp for each channel.
extern "C" __global__ void batch_norm_gradients(const float* __restrict__ partial,
                                                const float* __restrict__ spread,
                                                float* __restrict__ grad_weight,
                                                float* __restrict__ grad_bias, long long C,
                                                long long workers, long long is_var, float eps)
{
    const unsigned c = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    float sum = 0, dot = 0;
    if (c < C)
        for (long long worker = lane; worker < workers; worker += 32) {
            sum += partial[2 * (c * workers + worker)];
            dot += partial[2 * (c * workers + worker) + 1];
        }
    for (int step = 16; step; step /= 2) {
        sum += __shfl_down_sync(0xffffffffu, sum, step);
        dot += __shfl_down_sync(0xffffffffu, dot, step);
    }
    if (lane == 0 && c < C) {
        grad_weight[c] = dot * (is_var ? 1 / sqrtf(spread[c] + eps) : spread[c]);
        grad_bias[c] = sum;
    }
}
