// What batch_norm's gradients add up over each channel of x [N, C, L]: sum(gy) and sum(gy (x - mean)),
// which are the gradients of bias and, times 1 / sqrt(variance + eps), of weight. Bound by memory: 8
// bytes an element.
//
//   _sequential   one thread passes over everything
//   (plain)       `workers` simdgroups share a channel, and write what they found. A thread takes 16
//                 numbers of both at a time (8, one by one, where rows do not divide into fours), so
//                 that as many loads are under way; then its simdgroup's lanes put theirs together in a
//                 tree
//   batch_norm_gradients   puts the workers' together, a simdgroup for each channel
#include <metal_stdlib>
using namespace metal;

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
    // The unit of row n that is this thread's; there is none where it is not below `units`.
    inline int unit() const { return part * lanes + at; }
    inline void next()
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
inline void load(device const float* from, thread float (&to)[W])
{
    for (int w = 0; w < W; w++) to[w] = from[w];
}

// gy, x [N, C, L], partial [C, workers, 2]: sums of gy, and of gy (x - mean)
kernel void batch_norm_sums_sequential(
    device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
    device const float* mean [[buffer(2)]], device const float* low [[buffer(3)]],
    device float* partial [[buffer(4)]], constant long& N [[buffer(5)]], constant long& C [[buffer(6)]],
    constant long& L [[buffer(7)]], constant long& wide [[buffer(8)]],
    constant long& lanes [[buffer(9)]], constant long& workers [[buffer(10)]],
    constant long& has_low [[buffer(11)]])
{
    for (long c = 0; c < C; c++) {
        const float middle = mean[c], rest = has_low ? low[c] : 0;
        float sum = 0, dot = 0;
        for (long n = 0; n < N; n++) {
            float row_sum = 0, row_dot = 0;
            for (long i = (n * C + c) * L; i < (n * C + c + 1) * L; i++) {
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
inline void sums(device const float* gy, device const float* x, int N, int C, int L, int c, Walk walk,
                 float mean, float low, thread float& sum, thread float& dot)
{
    while (walk.n < N) {
        float values[K][W] = {}, given[K][W] = {};
        bool there[K];
        for (int k = 0; k < K; k++) {
            const int unit = walk.unit();
            there[k] = walk.n < N && unit < walk.units;
            if (there[k]) {
                const long i = (long(walk.n) * C + c) * L + unit * W;
                load<W>(x + i, values[k]);
                load<W>(gy + i, given[k]);
            }
            walk.next();
        }
        float part_sum = 0, part_dot = 0;
        for (int k = 0; k < K; k++)
            for (int w = 0; w < W; w++) {
                part_sum += given[k][w];
                part_dot += there[k] ? given[k][w] * (values[k][w] - mean - low) : 0;
            }
        sum += part_sum;
        dot += part_dot;
    }
}

// As many simdgroups as channels times workers; `wide` numbers at a time, 1 or 4.
kernel void batch_norm_sums(
    device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
    device const float* mean [[buffer(2)]], device const float* low [[buffer(3)]],
    device float* partial [[buffer(4)]], constant long& N [[buffer(5)]], constant long& C [[buffer(6)]],
    constant long& L [[buffer(7)]], constant long& wide [[buffer(8)]],
    constant long& lanes [[buffer(9)]], constant long& workers [[buffer(10)]],
    constant long& has_low [[buffer(11)]], uint group [[threadgroup_position_in_grid]],
    uint t [[thread_position_in_threadgroup]], uint threads [[threads_per_threadgroup]])
{
    const uint simd = (ulong(group) * threads + t) / 32;
    const uint c = simd / uint(workers), lane = t % 32;
    float sum = 0, dot = 0;
    if (c < C) {
        const Walk walk(L, wide, lanes, simd % uint(workers), workers, lane);
        const float middle = mean[c], rest = has_low ? low[c] : 0;
        if (wide == 4) sums<4, 4>(gy, x, N, C, L, c, walk, middle, rest, sum, dot);
        else sums<8, 1>(gy, x, N, C, L, c, walk, middle, rest, sum, dot);
    }
    for (int step = 16; step; step /= 2) {
        sum += simd_shuffle_down(sum, step);
        dot += simd_shuffle_down(dot, step);
    }
    if (lane == 0 && c < C) {
        partial[2 * long(simd)] = sum;
        partial[2 * long(simd) + 1] = dot;
    }
}

// partial [C, workers, 2]; spread and the gradients of weight and bias [C]
kernel void batch_norm_gradients_sequential(
    device const float* partial [[buffer(0)]], device const float* spread [[buffer(1)]],
    device float* grad_weight [[buffer(2)]], device float* grad_bias [[buffer(3)]],
    constant long& C [[buffer(4)]], constant long& workers [[buffer(5)]],
    constant long& is_var [[buffer(6)]], constant float& eps [[buffer(7)]])
{
    for (long c = 0; c < C; c++) {
        float sum = 0, dot = 0;
        for (long worker = 0; worker < workers; worker++) {
            sum += partial[2 * (c * workers + worker)];
            dot += partial[2 * (c * workers + worker) + 1];
        }
        grad_weight[c] = dot * (is_var ? 1 / precise::sqrt(spread[c] + eps) : spread[c]);
        grad_bias[c] = sum;
    }
}

// A simdgroup for each channel.
kernel void batch_norm_gradients(
    device const float* partial [[buffer(0)]], device const float* spread [[buffer(1)]],
    device float* grad_weight [[buffer(2)]], device float* grad_bias [[buffer(3)]],
    constant long& C [[buffer(4)]], constant long& workers [[buffer(5)]],
    constant long& is_var [[buffer(6)]], constant float& eps [[buffer(7)]],
    uint group [[threadgroup_position_in_grid]], uint t [[thread_position_in_threadgroup]],
    uint threads [[threads_per_threadgroup]])
{
    const uint c = (group * threads + t) / 32, lane = t % 32;
    float sum = 0, dot = 0;
    if (c < C)
        for (long worker = lane; worker < workers; worker += 32) {
            sum += partial[2 * (c * workers + worker)];
            dot += partial[2 * (c * workers + worker) + 1];
        }
    for (int step = 16; step; step /= 2) {
        sum += simd_shuffle_down(sum, step);
        dot += simd_shuffle_down(dot, step);
    }
    if (lane == 0 && c < C) {
        grad_weight[c] = dot * (is_var ? 1 / precise::sqrt(spread[c] + eps) : spread[c]);
        grad_bias[c] = sum;
    }
}
