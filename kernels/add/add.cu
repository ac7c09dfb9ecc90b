// input + alpha other, and the gradients of both. Bound by memory: 12 bytes an element.
//
//   _sequential     one thread passes over everything
//   add_forward     equal shapes, or one of them a single number: a thread takes four neighbours as
//                   one float4; memory that does not begin on 16 bytes goes one by one
//   add_broadcast   any other shapes: a thread makes one element, and finds its place in both by
//                   divisions, one for each dimension
//   add_scale       a gradient of the output's own shape: alpha times grad_output
//   add_fold        a gradient that is summed over the dimensions along which its argument was
//                   repeated: `workers` threads for each element, every one of them adding up every
//                   `workers`-th of its terms, 64 at a time; neighbours in a warp take neighbours in
//                   memory, which are terms of one sum (along) or of neighbouring sums
//   add_fold_finish adds up what the workers of an element found: a warp for each, in a tree
//
// `dims` is a table of sizes and strides, dimensions from the outermost to the innermost; those that
// lie one after another in memory are one.

__device__ inline bool on_16_bytes(const void* p) { return (unsigned long long)p % 16 == 0; }

// a, b [n] or of one element; y [n]
extern "C" __global__ void add_forward_sequential(const float* a, const float* b, float* y, float alpha,
                                                  long long n, long long one_a, long long one_b)
{
    for (long long i = 0; i < n; i++) y[i] = a[one_a ? 0 : i] + alpha * b[one_b ? 0 : i];
}

// As many threads as n / 4, rounded up.
extern "C" __global__ void add_forward(const float* __restrict__ a, const float* __restrict__ b,
                                       float* __restrict__ y, float alpha, long long n, long long one_a,
                                       long long one_b)
{
    const long long first = 4 * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (first + 4 <= n && on_16_bytes(y) && (one_a || on_16_bytes(a)) && (one_b || on_16_bytes(b))) {
        const float4 u = one_a ? make_float4(*a, *a, *a, *a) : *(const float4*)(a + first);
        const float4 v = one_b ? make_float4(*b, *b, *b, *b) : *(const float4*)(b + first);
        *(float4*)(y + first) = make_float4(u.x + alpha * v.x, u.y + alpha * v.y, u.z + alpha * v.z,
                                            u.w + alpha * v.w);
    } else {
        for (long long i = first; i < n && i < first + 4; i++)
            y[i] = a[one_a ? 0 : i] + alpha * b[one_b ? 0 : i];
    }
}

// One element of the result; dims [3, rank]: its sizes, and the strides of a and of b.
__device__ inline float one_sum(const float* a, const float* b, const long long* dims, float alpha,
                                unsigned i, int rank)
{
    unsigned in_a = 0, in_b = 0;
    for (int d = rank - 1; d >= 0; d--) {
        const unsigned size = dims[d], at = i % size;
        in_a += at * (unsigned)dims[rank + d];
        in_b += at * (unsigned)dims[2 * rank + d];
        i /= size;
    }
    return a[in_a] + alpha * b[in_b];
}

extern "C" __global__ void add_broadcast_sequential(const float* a, const float* b, float* y,
                                                    const long long* dims, float alpha, long long n,
                                                    long long rank)
{
    for (long long i = 0; i < n; i++) y[i] = one_sum(a, b, dims, alpha, i, rank);
}

// As many threads as elements.
extern "C" __global__ void add_broadcast(const float* __restrict__ a, const float* __restrict__ b,
                                         float* __restrict__ y, const long long* __restrict__ dims,
                                         float alpha, long long n, long long rank)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = one_sum(a, b, dims, alpha, i, rank);
}

// gy, g [n]
extern "C" __global__ void add_scale_sequential(const float* gy, float* g, float alpha, long long n)
{
    for (long long i = 0; i < n; i++) g[i] = alpha * gy[i];
}

// As many threads as n / 4, rounded up.
extern "C" __global__ void add_scale(const float* __restrict__ gy, float* __restrict__ g, float alpha,
                                     long long n)
{
    const long long first = 4 * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (first + 4 <= n && on_16_bytes(gy) && on_16_bytes(g)) {
        const float4 v = *(const float4*)(gy + first);
        *(float4*)(g + first) = make_float4(alpha * v.x, alpha * v.y, alpha * v.z, alpha * v.w);
    } else {
        for (long long i = first; i < n && i < first + 4; i++) g[i] = alpha * gy[i];
    }
}

// Where element i of some dimensions lies.
__device__ inline unsigned place(const long long* sizes, const long long* strides, int rank, unsigned i)
{
    unsigned at = 0;
    for (int d = rank - 1; d > 0; d--) {
        const unsigned size = sizes[d];
        at += i % size * (unsigned)strides[d];
        i /= size;
    }
    return rank ? at + i * (unsigned)strides[0] : at;
}

// Every `workers`-th of the terms of sum o from that of `worker` on; dims [2, kept + folded]: sizes
// and strides in gy, first of the dimensions that the sums have.
__device__ inline float folded(const float* gy, const long long* dims, float alpha, unsigned o,
                               long long worker, long long workers, long long terms, int kept, int rank)
{
    const float* from = gy + place(dims, dims + rank, kept, o);
    float sum = 0;
    for (long long begin = worker; begin < terms; begin += 64 * workers) {
        const long long end = min(begin + 64 * workers, terms);
        float part = 0;
        for (long long i = begin; i < end; i += workers)
            part += alpha * from[place(dims + kept, dims + rank + kept, rank - kept, i)];
        sum += part;
    }
    return sum;
}

// partial [sums, workers]
extern "C" __global__ void add_fold_sequential(const float* gy, float* partial, const long long* dims,
                                               float alpha, long long sums, long long terms,
                                               long long workers, long long along, long long kept,
                                               long long rank)
{
    for (long long o = 0; o < sums; o++)
        for (long long worker = 0; worker < workers; worker++)
            partial[o * workers + worker] =
                folded(gy, dims, alpha, o, worker, workers, terms, kept, rank);
}

// As many threads as sums times workers.
extern "C" __global__ void add_fold(const float* __restrict__ gy, float* __restrict__ partial,
                                    const long long* __restrict__ dims, float alpha, long long sums,
                                    long long terms, long long workers, long long along, long long kept,
                                    long long rank)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= sums * workers) return;
    const unsigned o = along ? i / (unsigned)workers : i % (unsigned)sums;
    const unsigned worker = along ? i % (unsigned)workers : i / (unsigned)sums;
    partial[(size_t)o * workers + worker] =
        folded(gy, dims, alpha, o, worker, workers, terms, kept, rank);
}

// partial [sums, workers], g [sums]
extern "C" __global__ void add_fold_finish_sequential(const float* partial, float* g, long long sums,
                                                      long long workers)
{
    for (long long o = 0; o < sums; o++) {
        float sum = 0;
        for (long long worker = 0; worker < workers; worker++) sum += partial[o * workers + worker];
        g[o] = sum;
    }
}

// A warp for each sum.
extern "C" __global__ void add_fold_finish(const float* __restrict__ partial, float* __restrict__ g,
                                           long long sums, long long workers)
{
    const long long o = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    float sum = 0;
    if (o < sums)
        for (long long worker = lane; worker < workers; worker += 32)
            sum += partial[o * workers + worker];
    for (int step = 16; step; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
    if (lane == 0 && o < sums) g[o] = sum;
}
