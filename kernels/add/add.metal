// input + alpha other, and the gradients of both. Bound by memory: 12 bytes an element.
//
//   _sequential     one thread passes over everything
//   add_forward     equal shapes, or one of them a single number: a thread takes four elements, as far
//                   apart as a simdgroup is wide
//   add_broadcast   any other shapes: a thread makes one element, and finds its place in both by
//                   divisions, one for each dimension
//   add_scale       a gradient of the output's own shape: alpha times grad_output
//   add_fold        a gradient that is summed over the dimensions along which its argument was
//                   repeated: `workers` threads for each element, every one of them adding up every
//                   `workers`-th of its terms, 64 at a time; neighbours in a simdgroup take neighbours
//                   in memory, which are terms of one sum (along) or of neighbouring sums
//   add_fold_finish adds up what the workers of an element found: a simdgroup for each, in a tree
//
// `dims` is a table of sizes and strides, dimensions from the outermost to the innermost; those that
// lie one after another in memory are one.
#include <metal_stdlib>
using namespace metal;

constexpr constant int EACH = 4, SIMD = 32;

inline long first_of(uint i) { return long(i / SIMD) * (EACH * SIMD) + i % SIMD; }

// a, b [n] or of one element; y [n]
kernel void add_forward_sequential(device const float* a [[buffer(0)]],
                                   device const float* b [[buffer(1)]],
                                   device float* y [[buffer(2)]], constant float& alpha [[buffer(3)]],
                                   constant long& n [[buffer(4)]], constant long& one_a [[buffer(5)]],
                                   constant long& one_b [[buffer(6)]])
{
    for (long i = 0; i < n; i++) y[i] = a[one_a ? 0 : i] + alpha * b[one_b ? 0 : i];
}

// At least n / 4 threads, a multiple of 32.
kernel void add_forward(device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
                        device float* y [[buffer(2)]], constant float& alpha [[buffer(3)]],
                        constant long& n [[buffer(4)]], constant long& one_a [[buffer(5)]],
                        constant long& one_b [[buffer(6)]], uint t [[thread_position_in_grid]])
{
    const long first = first_of(t);
    for (long i = first; i < n && i < first + EACH * SIMD; i += SIMD)
        y[i] = a[one_a ? 0 : i] + alpha * b[one_b ? 0 : i];
}

// One element of the result; dims [3, rank]: its sizes, and the strides of a and of b.
inline float one_sum(device const float* a, device const float* b, device const long* dims, float alpha,
                     uint i, int rank)
{
    uint in_a = 0, in_b = 0;
    for (int d = rank - 1; d >= 0; d--) {
        const uint size = dims[d], at = i % size;
        in_a += at * uint(dims[rank + d]);
        in_b += at * uint(dims[2 * rank + d]);
        i /= size;
    }
    return a[in_a] + alpha * b[in_b];
}

kernel void add_broadcast_sequential(device const float* a [[buffer(0)]],
                                     device const float* b [[buffer(1)]], device float* y [[buffer(2)]],
                                     device const long* dims [[buffer(3)]],
                                     constant float& alpha [[buffer(4)]], constant long& n [[buffer(5)]],
                                     constant long& rank [[buffer(6)]])
{
    for (long i = 0; i < n; i++) y[i] = one_sum(a, b, dims, alpha, i, rank);
}

// As many threads as elements.
kernel void add_broadcast(device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
                          device float* y [[buffer(2)]], device const long* dims [[buffer(3)]],
                          constant float& alpha [[buffer(4)]], constant long& n [[buffer(5)]],
                          constant long& rank [[buffer(6)]], uint i [[thread_position_in_grid]])
{
    if (i < n) y[i] = one_sum(a, b, dims, alpha, i, rank);
}

// gy, g [n]
kernel void add_scale_sequential(device const float* gy [[buffer(0)]], device float* g [[buffer(1)]],
                                 constant float& alpha [[buffer(2)]], constant long& n [[buffer(3)]])
{
    for (long i = 0; i < n; i++) g[i] = alpha * gy[i];
}

// At least n / 4 threads, a multiple of 32.
kernel void add_scale(device const float* gy [[buffer(0)]], device float* g [[buffer(1)]],
                      constant float& alpha [[buffer(2)]], constant long& n [[buffer(3)]],
                      uint t [[thread_position_in_grid]])
{
    const long first = first_of(t);
    for (long i = first; i < n && i < first + EACH * SIMD; i += SIMD) g[i] = alpha * gy[i];
}

// Where element i of some dimensions lies.
inline uint place(device const long* sizes, device const long* strides, int rank, uint i)
{
    uint at = 0;
    for (int d = rank - 1; d > 0; d--) {
        const uint size = sizes[d];
        at += i % size * uint(strides[d]);
        i /= size;
    }
    return rank ? at + i * uint(strides[0]) : at;
}

// Every `workers`-th of the terms of sum o from that of `worker` on; dims [2, kept + folded]: sizes
// and strides in gy, first of the dimensions that the sums have.
inline float folded(device const float* gy, device const long* dims, float alpha, uint o, long worker,
                    long workers, long terms, int kept, int rank)
{
    device const float* from = gy + place(dims, dims + rank, kept, o);
    float sum = 0;
    for (long begin = worker; begin < terms; begin += 64 * workers) {
        const long end = min(begin + 64 * workers, terms);
        float part = 0;
        for (long i = begin; i < end; i += workers)
            part += alpha * from[place(dims + kept, dims + rank + kept, rank - kept, i)];
        sum += part;
    }
    return sum;
}

// partial [sums, workers]
kernel void add_fold_sequential(device const float* gy [[buffer(0)]],
                                device float* partial [[buffer(1)]],
                                device const long* dims [[buffer(2)]],
                                constant float& alpha [[buffer(3)]], constant long& sums [[buffer(4)]],
                                constant long& terms [[buffer(5)]], constant long& workers [[buffer(6)]],
                                constant long& along [[buffer(7)]], constant long& kept [[buffer(8)]],
                                constant long& rank [[buffer(9)]])
{
    for (long o = 0; o < sums; o++)
        for (long worker = 0; worker < workers; worker++)
            partial[o * workers + worker] =
                folded(gy, dims, alpha, o, worker, workers, terms, kept, rank);
}

// As many threads as sums times workers.
kernel void add_fold(device const float* gy [[buffer(0)]], device float* partial [[buffer(1)]],
                     device const long* dims [[buffer(2)]], constant float& alpha [[buffer(3)]],
                     constant long& sums [[buffer(4)]], constant long& terms [[buffer(5)]],
                     constant long& workers [[buffer(6)]], constant long& along [[buffer(7)]],
                     constant long& kept [[buffer(8)]], constant long& rank [[buffer(9)]],
                     uint i [[thread_position_in_grid]])
{
    if (i >= sums * workers) return;
    const uint o = along ? i / uint(workers) : i % uint(sums);
    const uint worker = along ? i % uint(workers) : i / uint(sums);
    partial[o * workers + worker] = folded(gy, dims, alpha, o, worker, workers, terms, kept, rank);
}

// partial [sums, workers], g [sums]
kernel void add_fold_finish_sequential(device const float* partial [[buffer(0)]],
                                       device float* g [[buffer(1)]], constant long& sums [[buffer(2)]],
                                       constant long& workers [[buffer(3)]])
{
    for (long o = 0; o < sums; o++) {
        float sum = 0;
        for (long worker = 0; worker < workers; worker++) sum += partial[o * workers + worker];
        g[o] = sum;
    }
}

// A simdgroup for each sum.
kernel void add_fold_finish(device const float* partial [[buffer(0)]], device float* g [[buffer(1)]],
                            constant long& sums [[buffer(2)]], constant long& workers [[buffer(3)]],
                            uint group [[threadgroup_position_in_grid]],
                            uint t [[thread_position_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]])
{
    const long o = (long(group) * threads + t) / SIMD;
    const int lane = t % SIMD;
    float sum = 0;
    if (o < sums)
        for (long worker = lane; worker < workers; worker += SIMD) sum += partial[o * workers + worker];
    sum = simd_sum(sum);
    if (lane == 0 && o < sums) g[o] = sum;
}
