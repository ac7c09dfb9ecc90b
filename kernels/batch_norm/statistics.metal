// Mean and variance of each channel of x [N, C, L], for batch_norm in training. Bound by memory: 4
// bytes an element.
//
//   _sequential   one thread passes over everything
//   (plain)       `workers` simdgroups share a channel, and write what they found. A thread takes 16
//                 numbers at a time (8, one by one, where rows do not divide into fours), so that as
//                 many loads are under way; then its simdgroup's lanes put theirs together in a tree
//   batch_norm_statistics   puts the workers' together, a simdgroup for each channel
//   batch_norm_training     all of a small batch's normalising at once: 16 simdgroups for each channel,
//                           which comes from the cache when it is read again
//
// A mean is two numbers, mean + low, the second what rounding took from the first: so a mean far from
// zero costs the variance and the output nothing, in float32 throughout. Squares are of distances
// from a mean near by, never of the numbers themselves, and samples are merged as by Chan, Golub and
// LeVeque, "Algorithms for Computing the Sample Variance", 1983.
#include <metal_stdlib>
using namespace metal;

struct Moments {
    float count, mean, low, squares;  // squares: the sum of squared distances from mean + low
};

inline bool is_finite(float x) { return x - x == 0; }

// m, moved by `by`: the sum and its rounding error (Knuth's TwoSum), which is 0 beside infinity.
inline Moments moved(Moments m, float by)
{
    const float sum = m.mean + by, part = sum - m.mean;
    const float rest = (m.mean - (sum - part)) + (by - part) + m.low;
    m.mean = sum + rest;
    m.low = rest - (m.mean - sum);
    if (!is_finite(m.mean)) m.mean = sum, m.low = 0;
    return m;
}

// Of both samples together.
inline Moments merged(Moments a, Moments b)
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
inline Moments of_values(thread const float (&values)[K][W], thread const bool (&there)[K])
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

inline void put(Moments m, device float* to)
{
    to[0] = m.count, to[1] = m.mean, to[2] = m.low, to[3] = m.squares;
}

// A thread's way through a channel: the rows are cut into tiles of `lanes` units, each of W numbers,
// and 32 / lanes tiles are a simdgroup's at a time.
struct Walk {
    int n, part, step_n, step_part, parts, at, lanes, units;

    inline Walk(int L, int W, int lanes, int worker, int workers, int lane)
        : lanes(lanes), units(L / W)
    {
        const int rows = 32 / lanes, tile = worker * rows + lane / lanes;
        parts = (units + lanes - 1) / lanes;
        n = tile / parts, part = tile % parts;
        step_n = workers * rows / parts, step_part = workers * rows % parts;
        at = lane % lanes;
    }
    // This thread's unit of row n, if it is below `units`.
    inline int unit() const { return part * lanes + at; }
    inline void next()
    {
        n += step_n, part += step_part;
        if (part >= parts) {
            part -= parts;
            n++;
        }
    }
};

template <int W>
inline void load(device const float* from, thread float (&to)[W])
{
    for (int w = 0; w < W; w++) to[w] = from[w];
}

// One channel's, by one thread.
inline Moments moments_of_channel(device const float* x, long N, long C, long L, long c)
{
    Moments all = {0, 0, 0, 0};
    for (long n = 0; n < N; n++) {
        Moments row = {0, 0, 0, 0};
        for (long i = 0; i < L; i++) row = merged(row, {1, x[(n * C + c) * L + i], 0, 0});
        all = merged(all, row);
    }
    return all;
}

// x [N, C, L], partial [C, workers, 4]
kernel void batch_norm_moments_sequential(
    device const float* x [[buffer(0)]], device float* partial [[buffer(1)]],
    constant long& N [[buffer(2)]], constant long& C [[buffer(3)]], constant long& L [[buffer(4)]],
    constant long& wide [[buffer(5)]], constant long& lanes [[buffer(6)]],
    constant long& workers [[buffer(7)]])
{
    for (long c = 0; c < C; c++) {
        const Moments all = moments_of_channel(x, N, C, L, c);
        put(all, partial + 4 * c * workers);
    }
}

template <int K, int W>
inline Moments moments(device const float* x, int N, int C, int L, int c, Walk walk)
{
    Moments all = {0, 0, 0, 0};
    while (walk.n < N) {
        float values[K][W];
        bool there[K];
        for (int k = 0; k < K; k++) {
            const int unit = walk.unit();
            there[k] = walk.n < N && unit < walk.units;
            if (there[k]) load<W>(x + (long(walk.n) * C + c) * L + unit * W, values[k]);
            walk.next();
        }
        all = merged(all, of_values<K, W>(values, there));
    }
    return all;
}

inline Moments over_simdgroup(Moments m, uint lane)
{
    for (int step = 16; step; step /= 2) {
        Moments other;
        other.count = simd_shuffle_down(m.count, step);
        other.mean = simd_shuffle_down(m.mean, step);
        other.low = simd_shuffle_down(m.low, step);
        other.squares = simd_shuffle_down(m.squares, step);
        if (lane + step < 32) m = merged(m, other);
    }
    return m;
}

// As many simdgroups as channels times workers; `wide` numbers at a time, 1 or 4.
kernel void batch_norm_moments(
    device const float* x [[buffer(0)]], device float* partial [[buffer(1)]],
    constant long& N [[buffer(2)]], constant long& C [[buffer(3)]], constant long& L [[buffer(4)]],
    constant long& wide [[buffer(5)]], constant long& lanes [[buffer(6)]],
    constant long& workers [[buffer(7)]], uint group [[threadgroup_position_in_grid]],
    uint t [[thread_position_in_threadgroup]], uint threads [[threads_per_threadgroup]])
{
    const uint simd = (ulong(group) * threads + t) / 32;
    const uint c = simd / uint(workers), lane = t % 32;
    Moments all = {0, 0, 0, 0};
    if (c < C) {
        const Walk walk(L, wide, lanes, simd % uint(workers), workers, lane);
        all = wide == 4 ? moments<4, 4>(x, N, C, L, c, walk) : moments<8, 1>(x, N, C, L, c, walk);
    }
    all = over_simdgroup(all, lane);
    if (lane == 0 && c < C) put(all, partial + 4 * long(simd));
}

// What a channel's moments are used for; `count` numbers.
inline void keep(Moments m, device float* mean, device float* low, device float* invstd,
                 device float* running_mean, device float* running_var, long c, float count, float kept,
                 float momentum, float eps, bool has_running)
{
    mean[c] = m.mean;
    low[c] = m.low;
    invstd[c] = 1 / precise::sqrt(m.squares / count + eps);
    if (!has_running) return;
    running_mean[c] = kept * running_mean[c] + momentum * m.mean;
    running_var[c] = kept * running_var[c] + momentum * (m.squares / (count - 1));
}

// What every `step`-th worker from `first` on found, together.
inline Moments of_workers(device const float* found, int first, int step, long workers)
{
    Moments all = {0, 0, 0, 0};
    for (long i = first; i < workers; i += step)
        all = merged(all, {found[4 * i], found[4 * i + 1], found[4 * i + 2], found[4 * i + 3]});
    return all;
}

// partial [C, workers, 4], all others [C]; kept = 1 - momentum
kernel void batch_norm_statistics_sequential(
    device const float* partial [[buffer(0)]], device float* mean [[buffer(1)]],
    device float* low [[buffer(2)]], device float* invstd [[buffer(3)]],
    device float* running_mean [[buffer(4)]], device float* running_var [[buffer(5)]],
    constant long& C [[buffer(6)]], constant long& workers [[buffer(7)]],
    constant long& count [[buffer(8)]], constant float& kept [[buffer(9)]],
    constant float& momentum [[buffer(10)]], constant float& eps [[buffer(11)]],
    constant long& has_running [[buffer(12)]])
{
    for (long c = 0; c < C; c++) {
        const Moments all = of_workers(partial + 4 * c * workers, 0, 1, workers);
        keep(all, mean, low, invstd, running_mean, running_var, c, count, kept, momentum, eps,
             has_running);
    }
}

// A simdgroup for each channel.
kernel void batch_norm_statistics(
    device const float* partial [[buffer(0)]], device float* mean [[buffer(1)]],
    device float* low [[buffer(2)]], device float* invstd [[buffer(3)]],
    device float* running_mean [[buffer(4)]], device float* running_var [[buffer(5)]],
    constant long& C [[buffer(6)]], constant long& workers [[buffer(7)]],
    constant long& count [[buffer(8)]], constant float& kept [[buffer(9)]],
    constant float& momentum [[buffer(10)]], constant float& eps [[buffer(11)]],
    constant long& has_running [[buffer(12)]], uint group [[threadgroup_position_in_grid]],
    uint t [[thread_position_in_threadgroup]], uint threads [[threads_per_threadgroup]])
{
    const uint c = (group * threads + t) / 32, lane = t % 32;
    Moments all = {0, 0, 0, 0};
    if (c < C) all = of_workers(partial + 4 * c * workers, lane, 32, workers);
    all = over_simdgroup(all, lane);
    if (lane == 0 && c < C)
        keep(all, mean, low, invstd, running_mean, running_var, c, count, kept, momentum, eps,
             has_running);
}

// x, y [N, C, L], all others [C]: statistics and output; kept = 1 - momentum
kernel void batch_norm_training_sequential(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    device const float* weight [[buffer(2)]], device const float* bias [[buffer(3)]],
    device float* mean [[buffer(4)]], device float* low [[buffer(5)]],
    device float* invstd [[buffer(6)]], device float* running_mean [[buffer(7)]],
    device float* running_var [[buffer(8)]], constant long& N [[buffer(9)]],
    constant long& C [[buffer(10)]], constant long& L [[buffer(11)]],
    constant long& wide [[buffer(12)]], constant long& lanes [[buffer(13)]],
    constant float& kept [[buffer(14)]], constant float& momentum [[buffer(15)]],
    constant float& eps [[buffer(16)]], constant long& has_running [[buffer(17)]],
    constant long& has_weight [[buffer(18)]], constant long& has_bias [[buffer(19)]])
{
    for (long c = 0; c < C; c++) {
        const Moments all = moments_of_channel(x, N, C, L, c);
        keep(all, mean, low, invstd, running_mean, running_var, c, N * L, kept, momentum, eps,
             has_running);
        const float factor = invstd[c] * (has_weight ? weight[c] : 1), plus = has_bias ? bias[c] : 0;
        for (long n = 0; n < N; n++)
            for (long i = (n * C + c) * L; i < (n * C + c + 1) * L; i++)
                y[i] = (x[i] - all.mean - all.low) * factor + plus;
    }
}

// 512 threads for each channel.
[[max_total_threads_per_threadgroup(512)]]
kernel void batch_norm_training(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    device const float* weight [[buffer(2)]], device const float* bias [[buffer(3)]],
    device float* mean [[buffer(4)]], device float* low [[buffer(5)]],
    device float* invstd [[buffer(6)]], device float* running_mean [[buffer(7)]],
    device float* running_var [[buffer(8)]], constant long& N [[buffer(9)]],
    constant long& C [[buffer(10)]], constant long& L [[buffer(11)]],
    constant long& wide [[buffer(12)]], constant long& lanes [[buffer(13)]],
    constant float& kept [[buffer(14)]], constant float& momentum [[buffer(15)]],
    constant float& eps [[buffer(16)]], constant long& has_running [[buffer(17)]],
    constant long& has_weight [[buffer(18)]], constant long& has_bias [[buffer(19)]],
    uint group [[threadgroup_position_in_grid]], uint t [[thread_position_in_threadgroup]])
{
    threadgroup Moments found[16];
    const int c = group, simd = t / 32, lane = t % 32;
    Walk walk(L, wide, lanes, simd, 16, lane);
    Moments own = wide == 4 ? moments<4, 4>(x, N, C, L, c, walk) : moments<8, 1>(x, N, C, L, c, walk);
    own = over_simdgroup(own, lane);
    if (lane == 0) found[simd] = own;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Moments all = {0, 0, 0, 0};
    for (int i = 0; i < 16; i++) all = merged(all, found[i]);
    if (t == 0)
        keep(all, mean, low, invstd, running_mean, running_var, c, N * L, kept, momentum, eps,
             has_running);
    const float spread = precise::sqrt(all.squares / float(N * L) + eps);
    const float factor = 1 / spread * (has_weight ? weight[c] : 1), plus = has_bias ? bias[c] : 0;
    for (; walk.n < N; walk.next()) {
        if (walk.unit() >= walk.units) continue;
        const long at = (long(walk.n) * C + c) * L + walk.unit() * wide;
        for (int w = 0; w < wide; w++) y[at + w] = (x[at + w] - all.mean - all.low) * factor + plus;
    }
}
