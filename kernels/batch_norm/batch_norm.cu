// batch_norm and its input's gradient, element by element of x [N, C, L], by statistics of the channels
// (statistics.cu and gradients.cu). Bound by memory: 8 bytes an element, 12 for the gradient in
// training.
//
//   _sequential   one thread passes over everything, row by row
//   (plain)       a thread takes four neighbours as one float4, and looks up its channel by two
//                 divisions for all four, anew where a row ends among them; memory that does not begin
//                 on 16 bytes goes one by one
//
// A channel's mean is mean + low, where low is there: what rounding took from it. It is subtracted
// before anything is multiplied, so that a mean far from zero costs nothing.

__device__ inline bool on_16_bytes(const void* p) { return (unsigned long long)p % 16 == 0; }

__device__ inline void load(const float* from, float (&to)[4])
{
    const float4 v = *(const float4*)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

// A channel: spread is its variance (is_var) or 1 / sqrt(variance + eps).
struct Channel {
    float mean, low, invstd, weight, bias;
};

__device__ inline Channel channel(const float* mean, const float* low, const float* spread,
                                  const float* weight, const float* bias, unsigned c, bool has_low,
                                  bool is_var, bool has_weight, bool has_bias, float eps)
{
    return {mean[c], has_low ? low[c] : 0, is_var ? 1 / sqrtf(spread[c] + eps) : spread[c],
            has_weight ? weight[c] : 1, has_bias ? bias[c] : 0};
}

__device__ inline float centred(float x, Channel k) { return x - k.mean - k.low; }

__device__ inline float normalised(float x, Channel k)
{
    return centred(x, k) * (k.invstd * k.weight) + k.bias;
}

// x, y [N, C, L]: `total` numbers; all others [C]
extern "C" __global__ void batch_norm_forward_sequential(
    const float* x, float* y, const float* mean, const float* low, const float* spread,
    const float* weight, const float* bias, long long total, long long C, long long L,
    long long has_low, long long is_var, long long has_weight, long long has_bias, float eps)
{
    for (long long row = 0; row < total / L; row++) {
        const Channel k = channel(mean, low, spread, weight, bias, row % C, has_low, is_var, has_weight,
                                  has_bias, eps);
        for (long long i = row * L; i < (row + 1) * L; i++) y[i] = normalised(x[i], k);
    }
}

// As many threads as total / 4, rounded up.
extern "C" __global__ void batch_norm_forward(
    const float* __restrict__ x, float* __restrict__ y, const float* __restrict__ mean,
    const float* __restrict__ low, const float* __restrict__ spread, const float* __restrict__ weight,
    const float* __restrict__ bias, long long total, long long C, long long L, long long has_low,
    long long is_var, long long has_weight, long long has_bias, float eps)
{
    const long long first = 4 * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (first >= total) return;
    const int there = (int)min(total - first, 4ll);
    const bool vector = there == 4 && on_16_bytes(x) && on_16_bytes(y);
    float values[4];
    if (vector) load(x + first, values);
    else
        for (int i = 0; i < there; i++) values[i] = x[first + i];
    const unsigned row = (unsigned)first / (unsigned)L;
    unsigned at = (unsigned)first % (unsigned)L, c = row % (unsigned)C;
    Channel k = channel(mean, low, spread, weight, bias, c, has_low, is_var, has_weight, has_bias, eps);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (at++ == L) {  // the next row begins
            at = 1;
            c = c + 1 == C ? 0 : c + 1;
            k = channel(mean, low, spread, weight, bias, c, has_low, is_var, has_weight, has_bias, eps);
        }
        values[i] = normalised(values[i], k);
    }
    if (vector) *(float4*)(y + first) = make_float4(values[0], values[1], values[2], values[3]);
    else
        for (int i = 0; i < there; i++) y[first + i] = values[i];
}

// The input's gradient; `mean_gy` and `mean_dot`, those of gy and of gy times the normalised input, are
// 0 in inference.
__device__ inline float backward_of(float gy, float x, Channel k, float mean_gy, float mean_dot,
                                    bool training)
{
    const float factor = k.invstd * k.weight;
    if (!training) return gy * factor;
    return factor * (gy - mean_gy - centred(x, k) * k.invstd * mean_dot);
}

// gy, x, gx [N, C, L]: `total` numbers, `count` a channel; all others [C]
extern "C" __global__ void batch_norm_backward_sequential(
    const float* gy, const float* x, float* gx, const float* mean, const float* low, const float* spread,
    const float* weight, const float* sum_gy, const float* sum_dot, long long total, long long C,
    long long L, long long count, long long has_low, long long is_var, long long has_weight,
    long long training, float eps)
{
    for (long long row = 0; row < total / L; row++) {
        const long long c = row % C;
        const Channel k = channel(mean, low, spread, weight, weight, c, has_low, is_var, has_weight,
                                  false, eps);
        const float a = training ? sum_gy[c] / (float)count : 0;
        const float b = training ? sum_dot[c] / (float)count : 0;
        for (long long i = row * L; i < (row + 1) * L; i++)
            gx[i] = backward_of(gy[i], x[i], k, a, b, training);
    }
}

// As many threads as total / 4, rounded up.
extern "C" __global__ void batch_norm_backward(
    const float* __restrict__ gy, const float* __restrict__ x, float* __restrict__ gx,
    const float* __restrict__ mean, const float* __restrict__ low, const float* __restrict__ spread,
    const float* __restrict__ weight, const float* __restrict__ sum_gy,
    const float* __restrict__ sum_dot, long long total, long long C, long long L, long long count,
    long long has_low, long long is_var, long long has_weight, long long training, float eps)
{
    const long long first = 4 * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (first >= total) return;
    const int there = (int)min(total - first, 4ll);
    const bool vector = there == 4 && on_16_bytes(x) && on_16_bytes(gy) && on_16_bytes(gx);
    float values[4], given[4];
    if (vector) {
        load(gy + first, given);
        if (training) load(x + first, values);
    } else {
        for (int i = 0; i < there; i++) {
            given[i] = gy[first + i];
            values[i] = x[first + i];
        }
    }
    const unsigned row = (unsigned)first / (unsigned)L;
    unsigned at = (unsigned)first % (unsigned)L, c = row % (unsigned)C;
    const float share = 1 / (float)count;
    Channel k = channel(mean, low, spread, weight, weight, c, has_low, is_var, has_weight, false, eps);
    float a = training ? sum_gy[c] * share : 0, b = training ? sum_dot[c] * share : 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (at++ == L) {  // the next row begins
            at = 1;
            c = c + 1 == C ? 0 : c + 1;
            k = channel(mean, low, spread, weight, weight, c, has_low, is_var, has_weight, false, eps);
            a = training ? sum_gy[c] * share : 0;
            b = training ? sum_dot[c] * share : 0;
        }
        given[i] = backward_of(given[i], values[i], k, a, b, training);
    }
    if (vector) *(float4*)(gx + first) = make_float4(given[0], given[1], given[2], given[3]);
    else
        for (int i = 0; i < there; i++) gx[first + i] = given[i];
}
