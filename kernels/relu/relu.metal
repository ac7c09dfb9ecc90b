// relu and its gradient, element by element. Bound by memory: 8 bytes an element, 12 for the gradient.
//
//   _sequential   one thread passes over everything
//   (plain)       a thread takes four elements, as far apart as a simdgroup is wide, so that each of
//                 its loads fills whole cache lines together with its neighbours'
//
// What is not below zero stays what it is: NaN, and -0.0.
#include <metal_stdlib>
using namespace metal;

constexpr constant int EACH = 4, SIMD = 32;

inline float positive(float x) { return x < 0.0f ? 0.0f : x; }

// The gradient passes wherever x is not at or below zero, so at NaN too.
inline float passed(float gy, float x) { return x <= 0.0f ? 0.0f : gy; }

inline long first_of(uint i) { return long(i / SIMD) * (EACH * SIMD) + i % SIMD; }

// x, y [n]
kernel void relu_forward_sequential(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    constant long& n [[buffer(2)]])
{
    for (long i = 0; i < n; i++) y[i] = positive(x[i]);
}

// At least n / 4 threads, a multiple of 32.
kernel void relu_forward(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                         constant long& n [[buffer(2)]], uint i [[thread_position_in_grid]])
{
    const long first = first_of(i);
    for (long at = first; at < n && at < first + EACH * SIMD; at += SIMD) y[at] = positive(x[at]);
}

// gy, x, gx [n]
kernel void relu_backward_sequential(device const float* gy [[buffer(0)]],
                                     device const float* x [[buffer(1)]], device float* gx [[buffer(2)]],
                                     constant long& n [[buffer(3)]])
{
    for (long i = 0; i < n; i++) gx[i] = passed(gy[i], x[i]);
}

// At least n / 4 threads, a multiple of 32.
kernel void relu_backward(device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
                          device float* gx [[buffer(2)]], constant long& n [[buffer(3)]],
                          uint i [[thread_position_in_grid]])
{
    const long first = first_of(i);
    for (long at = first; at < n && at < first + EACH * SIMD; at += SIMD)
        gx[at] = passed(gy[at], x[at]);
}
