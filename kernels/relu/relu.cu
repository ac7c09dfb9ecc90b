// relu and its gradient, element by element. Bound by memory: 8 bytes an element, 12 for the gradient.
//
//   _sequential   one thread passes over everything: one load in flight at a time
//   (plain)       a thread takes four neighbours as one float4, so that a warp moves 512 bytes with
//                 one instruction; memory that does not begin on 16 bytes goes one by one
//
// What is not below zero stays what it is: NaN, and -0.0.

__device__ inline float positive(float x) { return x < 0.0f ? 0.0f : x; }

// The gradient passes wherever x is not at or below zero, so at NaN too.
__device__ inline float passed(float gy, float x) { return x <= 0.0f ? 0.0f : gy; }

__device__ inline bool on_16_bytes(const void* p) { return (unsigned long long)p % 16 == 0; }

// x, y [n]
extern "C" __global__ void relu_forward_sequential(const float* x, float* y, long long n)
{
    for (long long i = 0; i < n; i++) y[i] = positive(x[i]);
}

// As many threads as n / 4, rounded up.
extern "C" __global__ void relu_forward(const float* __restrict__ x, float* __restrict__ y, long long n)
{
    const long long first = 4 * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (first + 4 <= n && on_16_bytes(x) && on_16_bytes(y)) {
        const float4 v = *(const float4*)(x + first);
        *(float4*)(y + first) = make_float4(positive(v.x), positive(v.y), positive(v.z), positive(v.w));
    } else {
        for (long long i = first; i < n && i < first + 4; i++) y[i] = positive(x[i]);
    }
}

// gy, x, gx [n]
extern "C" __global__ void relu_backward_sequential(const float* gy, const float* x, float* gx,
                                                    long long n)
{
    for (long long i = 0; i < n; i++) gx[i] = passed(gy[i], x[i]);
}

// As many threads as n / 4, rounded up.
extern "C" __global__ void relu_backward(const float* __restrict__ gy, const float* __restrict__ x,
                                         float* __restrict__ gx, long long n)
{
    const long long first = 4 * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (first + 4 <= n && on_16_bytes(gy) && on_16_bytes(x) && on_16_bytes(gx)) {
        const float4 g = *(const float4*)(gy + first);
        const float4 v = *(const float4*)(x + first);
        *(float4*)(gx + first) =
            make_float4(passed(g.x, v.x), passed(g.y, v.y), passed(g.z, v.z), passed(g.w, v.w));
    } else {
        for (long long i = first; i < n && i < first + 4; i++) gx[i] = passed(gy[i], x[i]);
    }
}
