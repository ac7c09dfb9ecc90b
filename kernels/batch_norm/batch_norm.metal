// batch_norm and its input's gradient, element by element of x [N, C, L], by statistics of the channels
// (statistics.metal and gradients.metal). Bound by memory: 8 bytes an element, 12 for the gradient in
// training.
//
//   _sequential   one thread passes over everything, row by row
//   (plain)       a thread takes four neighbours, and looks up its channel by two divisions for all
//                 four, anew where a row ends among them
//
// A channel's mean is mean + low, where low is there: what rounding took from it. It is subtracted
// before anything is multiplied, so that a mean far from zero costs nothing.
#include <metal_stdlib>
using namespace metal;

// A channel: spread is its variance (is_var) or 1 / sqrt(variance + eps).
struct Channel {
    float mean, low, invstd, weight, bias;
};

inline Channel channel(device const float* mean, device const float* low, device const float* spread,
                       device const float* weight, device const float* bias, uint c, bool has_low,
                       bool is_var, bool has_weight, bool has_bias, float eps)
{
    return {mean[c], has_low ? low[c] : 0, is_var ? 1 / precise::sqrt(spread[c] + eps) : spread[c],
            has_weight ? weight[c] : 1, has_bias ? bias[c] : 0};
}

inline float centred(float x, Channel k) { return x - k.mean - k.low; }

inline float normalised(float x, Channel k)
{
    return centred(x, k) * (k.invstd * k.weight) + k.bias;
}

// x, y [N, C, L]: `total` numbers; all others [C]
kernel void batch_norm_forward_sequential(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    device const float* mean [[buffer(2)]], device const float* low [[buffer(3)]],
    device const float* spread [[buffer(4)]], device const float* weight [[buffer(5)]],
    device const float* bias [[buffer(6)]], constant long& total [[buffer(7)]],
    constant long& C [[buffer(8)]], constant long& L [[buffer(9)]],
    constant long& has_low [[buffer(10)]], constant long& is_var [[buffer(11)]],
    constant long& has_weight [[buffer(12)]], constant long& has_bias [[buffer(13)]],
    constant float& eps [[buffer(14)]])
{
    for (long row = 0; row < total / L; row++) {
        const Channel k = channel(mean, low, spread, weight, bias, row % C, has_low, is_var, has_weight,
                                  has_bias, eps);
        for (long i = row * L; i < (row + 1) * L; i++) y[i] = normalised(x[i], k);
    }
}

// As many threads as total / 4, rounded up.
kernel void batch_norm_forward(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    device const float* mean [[buffer(2)]], device const float* low [[buffer(3)]],
    device const float* spread [[buffer(4)]], device const float* weight [[buffer(5)]],
    device const float* bias [[buffer(6)]], constant long& total [[buffer(7)]],
    constant long& C [[buffer(8)]], constant long& L [[buffer(9)]],
    constant long& has_low [[buffer(10)]], constant long& is_var [[buffer(11)]],
    constant long& has_weight [[buffer(12)]], constant long& has_bias [[buffer(13)]],
    constant float& eps [[buffer(14)]], uint group [[threadgroup_position_in_grid]],
    uint t [[thread_position_in_threadgroup]], uint threads [[threads_per_threadgroup]])
{
    const long first = 4 * (long(group) * threads + t);
    if (first >= total) return;
    const int there = min(total - first, 4l);
    float values[4];
    for (int i = 0; i < there; i++) values[i] = x[first + i];
    const uint row = uint(first) / uint(L);
    uint at = uint(first) % uint(L), c = row % uint(C);
    Channel k = channel(mean, low, spread, weight, bias, c, has_low, is_var, has_weight, has_bias, eps);
    for (int i = 0; i < 4; i++) {
        if (at++ == L) {  // the next row begins
            at = 1;
            c = c + 1 == C ? 0 : c + 1;
            k = channel(mean, low, spread, weight, bias, c, has_low, is_var, has_weight, has_bias, eps);
        }
        values[i] = normalised(values[i], k);
    }
    for (int i = 0; i < there; i++) y[first + i] = values[i];
}

// The input's gradient; `mean_gy` and `mean_dot`, those of gy and of gy times the normalised input, are
// 0 in inference.
inline float backward_of(float gy, float x, Channel k, float mean_gy, float mean_dot, bool training)
{
    const float factor = k.invstd * k.weight;
    if (!training) return gy * factor;
    return factor * (gy - mean_gy - centred(x, k) * k.invstd * mean_dot);
}

// gy, x, gx [N, C, L]: `total` numbers, `count` a channel; all others [C]
kernel void batch_norm_backward_sequential(
    device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
    device float* gx [[buffer(2)]], device const float* mean [[buffer(3)]],
    device const float* low [[buffer(4)]], device const float* spread [[buffer(5)]],
    device const float* weight [[buffer(6)]], device const float* sum_gy [[buffer(7)]],
    device const float* sum_dot [[buffer(8)]], constant long& total [[buffer(9)]],
    constant long& C [[buffer(10)]], constant long& L [[buffer(11)]],
    constant long& count [[buffer(12)]], constant long& has_low [[buffer(13)]],
    constant long& is_var [[buffer(14)]], constant long& has_weight [[buffer(15)]],
    constant long& training [[buffer(16)]], constant float& eps [[buffer(17)]])
{
    for (long row = 0; row < total / L; row++) {
        const long c = row % C;
        const Channel k = channel(mean, low, spread, weight, weight, c, has_low, is_var, has_weight,
                                  false, eps);
        const float a = training ? sum_gy[c] / float(count) : 0;
        const float b = training ? sum_dot[c] / float(count) : 0;
        for (long i = row * L; i < (row + 1) * L; i++)
            gx[i] = backward_of(gy[i], x[i], k, a, b, training);
    }
}

// As many threads as total / 4, rounded up.
kernel void batch_norm_backward(
    device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
    device float* gx [[buffer(2)]], device const float* mean [[buffer(3)]],
    device const float* low [[buffer(4)]], device const float* spread [[buffer(5)]],
    device const float* weight [[buffer(6)]], device const float* sum_gy [[buffer(7)]],
    device const float* sum_dot [[buffer(8)]], constant long& total [[buffer(9)]],
    constant long& C [[buffer(10)]], constant long& L [[buffer(11)]],
    constant long& count [[buffer(12)]], constant long& has_low [[buffer(13)]],
    constant long& is_var [[buffer(14)]], constant long& has_weight [[buffer(15)]],
    constant long& training [[buffer(16)]], constant float& eps [[buffer(17)]],
    uint group [[threadgroup_position_in_grid]], uint t [[thread_position_in_threadgroup]],
    uint threads [[threads_per_threadgroup]])
{
    const long first = 4 * (long(group) * threads + t);
    if (first >= total) return;
    const int there = min(total - first, 4l);
    float values[4], given[4];
    for (int i = 0; i < there; i++) {
        given[i] = gy[first + i];
        values[i] = x[first + i];
    }
    const uint row = uint(first) / uint(L);
    uint at = uint(first) % uint(L), c = row % uint(C);
    const float share = 1 / float(count);
    Channel k = channel(mean, low, spread, weight, weight, c, has_low, is_var, has_weight, false, eps);
    float a = training ? sum_gy[c] * share : 0, b = training ? sum_dot[c] * share : 0;
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
    for (int i = 0; i < there; i++) gx[first + i] = given[i];
}
