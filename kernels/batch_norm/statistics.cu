// Mean and variance of each channel of x [N, C, L], for batch_norm in training. Bound by memory: 4
// bytes an element.
//
//   _sequential   one thread passes over everything
//   (plain)       `workers` warps share a channel, and write what they found. A thread takes 16 numbers
//                 at a time (8, one by one, where rows do not divide into float4), so that as many
//                 loads are under way; then its warp's lanes put theirs together in a tree
//   batch_norm_statistics   puts the workers' together, a warp for each channel
//   batch_norm_training     all of a small batch's normalising at once: a block of 16 warps for each
//                           channel, which comes from the cache when it is read again
//
// A mean is two numbers, mean + low, the second what rounding took from the first: so a mean far from
// zero costs the variance and the output nothing, in float32 throughout. Squares are of distances
// from a mean near by, never of the numbers themselves, and samples are merged as by Chan, Golub and
// LeVeque, "Algorithms for Computing the Sample Variance", 1983.

struct Moments {
    float count, mean, low, squares;  // squares: the sum of squared distances from mean + low
};

__device__ inline bool is_finite(float x) { return x - x == 0; }

// m, moved by `by`: the sum and its rounding error (Knuth's TwoSum), which is 0 beside infinity.
__device__ inline Moments moved(Moments m, float by)
{
    const float sum = m.mean + by, part = sum - m.mean;
    const float rest = (m.mean - (sum - part)) + (by - part) + m.low;
    m.mean = sum + rest;
    m.low = rest - (m.mean - sum);
    if (!is_finite(m.mean)) m.mean = sum, m.low = 0;
    return m;
}

// Of both samples together.
__device__ inline Moments merged(Moments a, Moments b)
{
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    const float count = a.count + b.count, share = b.count / count;
    const float apart = (b.mean - a.mean) + (b.low - a.low);
    if (!is_finite(apart)) return {count, a.mean + b.mean, 0, apart - apart};  // NaN squares
    b.squares += a.squares + apart * apart * a.count * share;
    b.mean = a.mean, b.low = a.low, b.count = count;
    return moved(b, apart * share);
}

// Of the values that are there, K times W of them; their distances from one of them first.
template <int K, int W>
__device__ inline Moments of_values(const float (&values)[K][W], const bool (&there)[K])
{
    float base = 0, count = 0, sum = 0, squares = 0;
    for (int k = 0; k < K; k++) {
        if (!there[k]) continue;
        count += W;
        if (is_finite(values[k][0])) base = values[k][0];
    }
    if (count == 0) return {0, 0, 0, 0};
    for (int k = 0; k < K; k++)
        for (int w = 0; w < W; w++) sum += there[k] ? values[k][w] - base : 0;
    const float mean = sum / count;
    for (int k = 0; k < K; k++)
        for (int w = 0; w < W; w++) {
            const float far = there[k] ? values[k][w] - base - mean : 0;
            squares += far * far;
        }
    return moved({count, base, 0, squares}, mean);
}

__device__ inline void put(Moments m, float* to)
{
    to[0] = m.count, to[1] = m.mean, to[2] = m.low, to[3] = m.squares;
}

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
    // This thread's unit of row n, if it is below `units`.
    __device__ inline int unit() const { return part * lanes + at; }
    __device__ inline void next()
    {
        n += step_n, part += step_part;
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

// One channel's, by one thread.
__device__ inline Moments moments_of_channel(const float* x, long long N, long long C, long long L,
                                             long long c)
{
    Moments all = {0, 0, 0, 0};
    for (long long n = 0; n < N; n++) {
        Moments row = {0, 0, 0, 0};
        for (long long i = 0; i < L; i++) row = merged(row, {1, x[(n * C + c) * L + i], 0, 0});
        all = merged(all, row);
    }
    return all;
}

// x [N, C, L], partial [C, workers, 4]
extern "C" __global__ void batch_norm_moments_sequential(const float* x, float* partial, long long N,
                                                         long long C, long long L, long long wide,
                                                         long long lanes, long long workers)
{
    for (long long c = 0; c < C; c++) {
        const Moments all = moments_of_channel(x, N, C, L, c);
        put(all, partial + 4 * c * workers);
    }
}

template <int K, int W>
__device__ inline Moments moments(const float* __restrict__ x, int N, int C, int L, int c, Walk walk)
{
    Moments all = {0, 0, 0, 0};
    while (walk.n < N) {
        float values[K][W];
        bool there[K];
        for (int k = 0; k < K; k++) {
            const int unit = walk.unit();
            there[k] = walk.n < N && unit < walk.units;
            if (there[k]) load<W>(x + ((size_t)walk.n * C + c) * L + unit * W, values[k]);
            walk.next();
        }
        all = merged(all, of_values<K, W>(values, there));
    }
    return all;
}

__device__ inline Moments over_warp(Moments m)
{
    for (int step = 16; step; step /= 2) {
        Moments other;
        other.count = __shfl_down_sync(0xffffffffu, m.count, step);
        other.mean = __shfl_down_sync(0xffffffffu, m.mean, step);
        other.low = __shfl_down_sync(0xffffffffu, m.low, step);
        other.squares = __shfl_down_sync(0xffffffffu, m.squares, step);
        if (threadIdx.x % 32 + step < 32) m = merged(m, other);
    }
    return m;
}

// As many warps as channels times workers; `wide` numbers at a time, 1 or 4.
extern "C" __global__ void batch_norm_moments(const float* __restrict__ x, float* __restrict__ partial,
                                              long long N, long long C, long long L, long long wide,
                                              long long lanes, long long workers)
{
    const unsigned warp = (blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x) / 32;
    const unsigned c = warp / (unsigned)workers, lane = threadIdx.x % 32;
    Moments all = {0, 0, 0, 0};
    if (c < C) {
        const Walk walk(L, wide, lanes, warp % (unsigned)workers, workers, lane);
        all = wide == 4 ? moments<4, 4>(x, N, C, L, c, walk) : moments<8, 1>(x, N, C, L, c, walk);
    }
    all = over_warp(all);
    if (lane == 0 && c < C) put(all, partial + 4 * (size_t)warp);
}

// What a channel's moments are used for; `count` numbers.
__device__ inline void keep(Moments m, float* mean, float* low, float* invstd, float* running_mean,
                            float* running_var, long long c, float count, float kept, float momentum,
                            float eps, bool has_running)
{
    mean[c] = m.mean;
    low[c] = m.low;
    invstd[c] = 1 / sqrtf(m.squares / count + eps);
    if (!has_running) return;
    running_mean[c] = kept * running_mean[c] + momentum * m.mean;
    running_var[c] = kept * running_var[c] + momentum * (m.squares / (count - 1));
}

// What every `step`-th worker from `first` on found, together.
__device__ inline Moments of_workers(const float* found, int first, int step, long long workers)
{
    Moments all = {0, 0, 0, 0};
    for (long long i = first; i < workers; i += step)
        all = merged(all, {found[4 * i], found[4 * i + 1], found[4 * i + 2], found[4 * i + 3]});
    return all;
}

// partial [C, workers, 4], all others [C]; kept = 1 - momentum
extern "C" __global__ void batch_norm_statistics_sequential(
    const float* partial, float* mean, float* low, float* invstd, float* running_mean,
    float* running_var, long long C, long long workers, long long count, float kept, float momentum,
    float eps, long long has_running)
{
    for (long long c = 0; c < C; c++) {
        const Moments all = of_workers(partial + 4 * c * workers, 0, 1, workers);
        keep(all, mean, low, invstd, running_mean, running_var, c, count, kept, momentum, eps,
             has_running);
    }
}

// A warp for each channel.
extern "C" __global__ void batch_norm_statistics(
    const float* __restrict__ partial, float* __restrict__ mean, float* __restrict__ low,
    float* __restrict__ invstd, float* __restrict__ running_mean, float* __restrict__ running_var,
    long long C, long long workers, long long count, float kept, float momentum, float eps,
    long long has_running)
{
    const unsigned c = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    Moments all = {0, 0, 0, 0};
    if (c < C) all = of_workers(partial + 4 * c * workers, lane, 32, workers);
    all = over_warp(all);
    if (lane == 0 && c < C)
        keep(all, mean, low, invstd, running_mean, running_var, c, count, kept, momentum, eps,
             has_running);
}

// x, y [N, C, L], all others [C]: statistics and output; kept = 1 - momentum
extern "C" __global__ void batch_norm_training_sequential(
    const float* x, float* y, const float* weight, const float* bias, float* mean, float* low,
    float* invstd, float* running_mean, float* running_var, long long N, long long C, long long L,
    long long wide, long long lanes, float kept, float momentum, float eps, long long has_running,
    long long has_weight, long long has_bias)
{
    for (long long c = 0; c < C; c++) {
        const Moments all = moments_of_channel(x, N, C, L, c);
        keep(all, mean, low, invstd, running_mean, running_var, c, N * L, kept, momentum, eps,
             has_running);
        const float factor = invstd[c] * (has_weight ? weight[c] : 1), plus = has_bias ? bias[c] : 0;
        for (long long n = 0; n < N; n++)
            for (long long i = (n * C + c) * L; i < (n * C + c + 1) * L; i++)
                y[i] = (x[i] - all.mean - all.low) * factor + plus;
    }
}

template <int K, int W>
__device__ inline void normalise(const float* x, float* y, int N, int C, int L, int c, Walk walk,
                                 Moments all, float factor, float plus)
{
    while (walk.n < N) {
        float values[K][W];
        size_t at[K];
        bool there[K];
        for (int k = 0; k < K; k++) {
            const int unit = walk.unit();
            there[k] = walk.n < N && unit < walk.units;
            at[k] = ((size_t)walk.n * C + c) * L + unit * W;
            if (there[k]) load<W>(x + at[k], values[k]);
            walk.next();
        }
        for (int k = 0; k < K; k++) {
            if (!there[k]) continue;
            float(&v)[W] = values[k];
            for (int w = 0; w < W; w++) v[w] = (v[w] - all.mean - all.low) * factor + plus;
            if constexpr (W == 4) *(float4*)(y + at[k]) = make_float4(v[0], v[1], v[2], v[3]);
            else y[at[k]] = v[0];
        }
    }
}

// A block of 512 threads for each channel.
extern "C" __global__ void __launch_bounds__(512) batch_norm_training(
    const float* __restrict__ x, float* __restrict__ y, const float* __restrict__ weight,
    const float* __restrict__ bias, float* __restrict__ mean, float* __restrict__ low,
    float* __restrict__ invstd, float* __restrict__ running_mean, float* __restrict__ running_var,
    long long N, long long C, long long L, long long wide, long long lanes, float kept, float momentum,
    float eps, long long has_running, long long has_weight, long long has_bias)
{
    __shared__ Moments found[16];
    const int c = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const Walk walk(L, wide, lanes, warp, 16, lane);
    Moments all = wide == 4 ? moments<4, 4>(x, N, C, L, c, walk) : moments<8, 1>(x, N, C, L, c, walk);
    all = over_warp(all);
    if (lane == 0) found[warp] = all;
    __syncthreads();
    all = {0, 0, 0, 0};
    for (int i = 0; i < 16; i++) all = merged(all, found[i]);
    if (threadIdx.x == 0)
        keep(all, mean, low, invstd, running_mean, running_var, c, N * L, kept, momentum, eps,
             has_running);
    const float factor = 1 / sqrtf(all.squares / (float)(N * L) + eps) * (has_weight ? weight[c] : 1);
    const float plus = has_bias ? bias[c] : 0;
    if (wide == 4) normalise<4, 4>(x, y, N, C, L, c, walk, all, factor, plus);
    else normalise<8, 1>(x, y, N, C, L, c, walk, all, factor, plus);
}
