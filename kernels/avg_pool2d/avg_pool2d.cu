// avg_pool2d, adaptive_avg_pool2d and their gradients: means over any grid of windows. Bound by
// memory: 4 bytes an input and 4 an output, either way.
//
//   _sequential   one thread passes over everything, window by window
//   (plain)       forward a thread makes one output, backward one input, from all windows over it
//   halving       windows of 2 x 2, two apart, over an even width: a thread makes `each` outputs side
//                 by side, 1 or 2, of one float2 or float4 a row, and backward writes those
//   team          where the mean is over whole rows of the image (above all, over the whole image),
//                 whose numbers lie one after another: 32 or 256 threads share a window, add up every
//                 32nd or 256th of its numbers each, and then their sums in a tree; backward, where
//                 the window is the image, they write it
//
// `rows` [3 P + 2 H] tells for each window its first row, how many are inside and its share of the
// divisor, which is the product of the row's and the column's, and for each row of the input the
// first window over it and the end of them; `columns` [3 Q + 2 W] the same.

// Of a window [P, Q] and of its sum.
__device__ inline float divisor(const long long* rows, const long long* columns, int p, int q, int P,
                                int Q)
{
    return (float)(rows[2 * P + p] * columns[2 * Q + q]);
}

// One window of an image [H, W]: each row's numbers, then the rows' sums.
__device__ inline float mean(const float* image, const long long* rows, const long long* columns,
                             int p, int q, int P, int Q, int W)
{
    const int top = (int)rows[p], left = (int)columns[q];
    const int down = (int)rows[P + p], across = (int)columns[Q + q];
    float sum = 0;
    for (int r = 0; r < down; r++) {
        const float* row = image + (top + r) * W + left;
        float line = 0;
        for (int s = 0; s < across; s++) line += row[s];
        sum += line;
    }
    return sum / divisor(rows, columns, p, q, P, Q);
}

// x [planes, H, W], y [planes, P, Q]
extern "C" __global__ void avg_pool2d_forward_sequential(
    const float* x, float* y, const long long* rows, const long long* columns, long long planes,
    long long H, long long W, long long P, long long Q, long long halving, long long each,
    long long team)
{
    for (long long plane = 0; plane < planes; plane++)
        for (int p = 0; p < P; p++)
            for (int q = 0; q < Q; q++)
                y[(plane * P + p) * Q + q] = mean(x + plane * H * W, rows, columns, p, q, P, Q, W);
}

// Thread `id` makes N outputs side by side.
template <int N>
__device__ inline void forward_halving(const float* __restrict__ x, float* __restrict__ y,
                                       const long long* __restrict__ rows,
                                       const long long* __restrict__ columns, unsigned planes, int H,
                                       int W, int P, unsigned id)
{
    const int Q = W / 2;
    const unsigned groups = Q / N, line = id / groups, plane = line / (unsigned)P;
    if (plane >= planes) return;
    const int p = line % (unsigned)P, q = N * (id % groups);
    const float* image = x + (size_t)plane * H * W + 2 * p * W + 2 * q;
    float sums[N] = {};
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if (2 * p + r >= H) continue;
        if constexpr (N == 2) {
            const float4 v = *(const float4*)(image + r * W);
            sums[0] += v.x + v.y;
            sums[1] += v.z + v.w;
        } else {
            const float2 v = *(const float2*)(image + r * W);
            sums[0] += v.x + v.y;
        }
    }
    const float by = divisor(rows, columns, p, q, P, Q);
    const size_t o = (size_t)line * Q + q;
    if constexpr (N == 2) *(float2*)(y + o) = make_float2(sums[0] / by, sums[1] / by);
    else y[o] = sums[0] / by;
}

// As many threads as outputs, times `team`; where halving, one for `each` outputs. 256 a block.
extern "C" __global__ void avg_pool2d_forward(
    const float* __restrict__ x, float* __restrict__ y, const long long* __restrict__ rows,
    const long long* __restrict__ columns, long long planes, long long H, long long W, long long P,
    long long Q, long long halving, long long each, long long team)
{
    __shared__ float sums[8];
    const unsigned long long thread = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    const unsigned id = thread / (unsigned)team, lane = threadIdx.x % (unsigned)team;
    if (halving) {
        if (each == 2) forward_halving<2>(x, y, rows, columns, planes, H, W, P, id);
        else forward_halving<1>(x, y, rows, columns, planes, H, W, P, id);
        return;
    }
    const unsigned line = id / (unsigned)Q, plane = line / (unsigned)P;
    const int p = line % (unsigned)P, q = id % (unsigned)Q;
    const float* image = x + (size_t)plane * H * W;
    if (team == 1) {
        if (plane < planes) y[id] = mean(image, rows, columns, p, q, P, Q, W);
        return;
    }
    float sum = 0;
    if (plane < planes) {
        const float* from = image + rows[p] * W;
        const int size = (int)rows[P + p] * (int)W;
        for (int i = lane; i < size; i += (int)team) sum += from[i];
    }
    for (int step = 16; step; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
    if (team > 32) {  // one window a block
        if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
        __syncthreads();
        if (threadIdx.x == 0)
            for (int warp = 1; warp < 8; warp++) sum += sums[warp];
    }
    if (lane == 0 && plane < planes) y[id] = sum / divisor(rows, columns, p, q, P, Q);
}

// What the windows over one input of an image give it, of their [P, Q].
__device__ inline float gathered(const float* gy, const long long* rows, const long long* columns,
                                 int i, int j, int H, int W, int P, int Q)
{
    const int p_end = (int)rows[3 * P + H + i], q_end = (int)columns[3 * Q + W + j];
    float sum = 0;
    for (int p = (int)rows[3 * P + i]; p < p_end; p++)
        for (int q = (int)columns[3 * Q + j]; q < q_end; q++)
            sum += gy[p * Q + q] / divisor(rows, columns, p, q, P, Q);
    return sum;
}

// gy [planes, P, Q], gx [planes, H, W]
extern "C" __global__ void avg_pool2d_backward_sequential(
    const float* gy, float* gx, const long long* rows, const long long* columns, long long planes,
    long long H, long long W, long long P, long long Q, long long halving, long long each,
    long long team)
{
    for (long long plane = 0; plane < planes; plane++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++)
                gx[(plane * H + i) * W + j] =
                    gathered(gy + plane * P * Q, rows, columns, i, j, H, W, P, Q);
}

// Thread `id` makes 2 rows of 2 N inputs.
template <int N>
__device__ inline void backward_halving(const float* __restrict__ gy, float* __restrict__ gx,
                                        const long long* __restrict__ rows,
                                        const long long* __restrict__ columns, unsigned planes, int H,
                                        int W, int P, unsigned id)
{
    const int Q = W / 2;
    const unsigned groups = Q / N, line = id / groups, pairs = (H + 1) / 2, plane = line / pairs;
    if (plane >= planes) return;
    const int p = line % pairs, q = N * (id % groups);
    float given[N] = {};
    if (p < P) {
        const float by = divisor(rows, columns, p, q, P, Q);
        const float* from = gy + ((size_t)plane * P + p) * Q + q;
        if constexpr (N == 2) {
            const float2 v = *(const float2*)from;
            given[0] = v.x / by, given[1] = v.y / by;
        } else {
            given[0] = *from / by;
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (2 * p + i >= H) continue;
        float* to = gx + ((size_t)plane * H + 2 * p + i) * W + 2 * q;
        if constexpr (N == 2) *(float4*)to = make_float4(given[0], given[0], given[1], given[1]);
        else *(float2*)to = make_float2(given[0], given[0]);
    }
}

// As many threads as inputs; where halving, one for 2 rows of 2 `each` of them; or `team` an image.
extern "C" __global__ void avg_pool2d_backward(
    const float* __restrict__ gy, float* __restrict__ gx, const long long* __restrict__ rows,
    const long long* __restrict__ columns, long long planes, long long H, long long W, long long P,
    long long Q, long long halving, long long each, long long team)
{
    const unsigned long long thread = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    const unsigned id = thread / (unsigned)team;
    if (halving) {
        if (each == 2) backward_halving<2>(gy, gx, rows, columns, planes, H, W, P, id);
        else backward_halving<1>(gy, gx, rows, columns, planes, H, W, P, id);
    } else if (team > 1) {
        if (id >= planes) return;
        const float given = gy[id] / divisor(rows, columns, 0, 0, 1, 1);
        float* to = gx + (size_t)id * H * W;
        const int size = H * W;
        for (int i = threadIdx.x % (unsigned)team; i < size; i += (int)team) to[i] = given;
    } else {
        const unsigned line = id / (unsigned)W, plane = line / (unsigned)H;
        if (plane >= planes) return;
        gx[id] = gathered(gy + (size_t)plane * P * Q, rows, columns, line % (unsigned)H,
                          id % (unsigned)W, H, W, P, Q);
    }
}
