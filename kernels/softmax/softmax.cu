// softmax and log_softmax along the middle of [outer, classes, inner], and their gradients. Bound by
// memory: 8 bytes an element, 12 for the gradient, where each is read once.
//
//   _sequential   one thread; three passes over each position's classes, two for the gradient
//   (plain)       `lanes` threads share a position, each with every lanes-th class in registers, up
//                 to 16, so that memory is read once; what they find is put together
//                   inner = 1, up to 32 lanes: neighbours in a warp, by shuffles, no barrier
//                   inner = 1, up to 256: a whole number of warps, by shuffles and shared memory
//                   inner > 1: 256 / lanes positions lie side by side, so that a warp reads
//                   neighbours in memory; the lanes' numbers meet in a tree in shared memory
//                 With more classes than 16 lanes hold, a first pass keeps the greatest and the sum
//                 as it goes ("online"), and a second reads again, from the L2 cache mostly.
//
// Sums are of exp(x - greatest). The greatest begins as the least finite number, so that x - greatest
// is never -inf - (-inf) before all is known; a position of nothing but -inf gives NaN, as 0 / 0.

constexpr int THREADS = 256;
constexpr unsigned ALL = 0xffffffffu;
constexpr float LEAST = -3.402823466e38f;

__device__ inline float minus_infinity() { return __int_as_float(0xff800000); }

// Where a thread works.
struct Place {
    int lanes, lane;
    int width;    // how many threads apart the lanes of a position are
    unsigned at;  // of the position's first class
    bool there;   // beyond the last position, a thread works on that, and writes nothing

    __device__ Place(unsigned outer, unsigned classes, unsigned inner, int bits) : lanes(1 << bits)
    {
        const int t = threadIdx.x, side_by_side = THREADS >> bits;
        width = inner == 1 ? 1 : side_by_side;
        lane = inner == 1 ? t & (lanes - 1) : t >> (8 - bits);
        const unsigned position =
            blockIdx.x * side_by_side + (inner == 1 ? t >> bits : t & (side_by_side - 1));
        there = position < outer * inner;
        const unsigned known = there ? position : outer * inner - 1;
        at = inner == 1 ? known * classes : known / inner * classes * inner + known % inner;
    }
};

struct Max {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Sum {
    __device__ float operator()(float a, float b) const { return a + b; }
};

// The fold over the lanes of each position. `room` [THREADS]; every thread of the block comes here.
template <class Fold>
__device__ __forceinline__ float over_lanes(const Place& place, float* room, float value, Fold fold)
{
    const int t = threadIdx.x;
    if (place.lanes == 1) return value;
    if (place.width == 1) {
        for (int step = min(place.lanes, 32) / 2; step; step /= 2)
            value = fold(value, __shfl_xor_sync(ALL, value, step));
        if (place.lanes <= 32) return value;
        __syncthreads();
        if (t % 32 == 0) room[t / 32] = value;
        __syncthreads();
        const int first = (t - place.lane) / 32;
        value = room[first];
        for (int warp = 1; warp < place.lanes / 32; warp++) value = fold(value, room[first + warp]);
        return value;
    }
    __syncthreads();
    room[t] = value;
    for (int near = place.lanes / 2; near; near /= 2) {
        __syncthreads();
        if (place.lane < near) room[t] = fold(room[t], room[t + near * place.width]);
    }
    __syncthreads();
    return room[t & (place.width - 1)];
}

// As many classes a lane as EACH, in registers.
template <int EACH>
__device__ __forceinline__ void forward(const Place& place, float* room, const float* x, float* y,
                                        int classes, int inner, bool log)
{
    x += place.at, y += place.at;
    float v[EACH], greatest = LEAST, total = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = place.lane + i * place.lanes;
        v[i] = c < classes ? x[c * inner] : minus_infinity();
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) greatest = fmaxf(greatest, v[i]);
    greatest = over_lanes(place, room, greatest, Max());
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const float e = expf(v[i] - greatest);
        total += e;
        v[i] = log ? v[i] - greatest : e;
    }
    total = over_lanes(place, room, total, Sum());
    const float less = log ? logf(total) : 0.0f, factor = log ? 1.0f : 1.0f / total;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = place.lane + i * place.lanes;
        if (place.there && c < classes) y[c * inner] = log ? v[i] - less : v[i] * factor;
    }
}

// Any number of classes, read twice, EACH at a time.
template <int EACH>
__device__ __forceinline__ void forward_online(const Place& place, float* room, const float* x, float* y,
                                               unsigned classes, int inner, bool log)
{
    x += place.at, y += place.at;
    const unsigned lanes = place.lanes;
    float greatest = LEAST, total = 0.0f;
    for (unsigned first = place.lane; first < classes; first += EACH * lanes) {
        float v[EACH], before = greatest;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const unsigned c = first + i * lanes;
            v[i] = c < classes ? x[c * inner] : minus_infinity();
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) greatest = fmaxf(greatest, v[i]);
        total *= expf(before - greatest);
#pragma unroll
        for (int i = 0; i < EACH; i++) total += expf(v[i] - greatest);
    }
    const float most = over_lanes(place, room, greatest, Max());
    total = over_lanes(place, room, total * expf(greatest - most), Sum());
    const float less = log ? logf(total) : 0.0f, factor = log ? 1.0f : 1.0f / total;
#pragma unroll 8
    for (unsigned c = place.lane; c < classes; c += lanes) {
        const float below = x[c * inner] - most;
        if (place.there) y[c * inner] = log ? below - less : expf(below) * factor;
    }
}

// gx of an element, from the sum over the classes of gy, or of gy y where it is not the logarithm.
__device__ inline float gradient(float gy, float y, float total, bool log)
{
    return log ? gy - expf(y) * total : y * (gy - total);
}

template <int EACH>
__device__ __forceinline__ void backward(const Place& place, float* room, const float* gy, const float* y,
                                         float* gx, int classes, int inner, bool log)
{
    gy += place.at, y += place.at, gx += place.at;
    float g[EACH], v[EACH], total = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = place.lane + i * place.lanes;
        g[i] = c < classes ? gy[c * inner] : 0.0f;
        v[i] = c < classes ? y[c * inner] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) total += log ? g[i] : g[i] * v[i];
    total = over_lanes(place, room, total, Sum());
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = place.lane + i * place.lanes;
        if (place.there && c < classes) gx[c * inner] = gradient(g[i], v[i], total, log);
    }
}

__device__ __forceinline__ void backward_twice(const Place& place, float* room, const float* gy,
                                               const float* y, float* gx, unsigned classes, int inner,
                                               bool log)
{
    gy += place.at, y += place.at, gx += place.at;
    float total = 0.0f;
#pragma unroll 8
    for (unsigned c = place.lane; c < classes; c += place.lanes)
        total += log ? gy[c * inner] : gy[c * inner] * y[c * inner];
    total = over_lanes(place, room, total, Sum());
#pragma unroll 8
    for (unsigned c = place.lane; c < classes; c += place.lanes)
        if (place.there) gx[c * inner] = gradient(gy[c * inner], y[c * inner], total, log);
}

// x, y [outer, classes, inner]
extern "C" __global__ void softmax_forward_sequential(const float* x, float* y, long long outer,
                                                      long long classes, long long inner, long long bits,
                                                      long long log)
{
    for (long long p = 0; p < outer * inner; p++) {
        const long long first = p / inner * classes * inner + p % inner, end = first + classes * inner;
        float greatest = LEAST, total = 0.0f;
        for (long long i = first; i < end; i += inner) greatest = fmaxf(greatest, x[i]);
        for (long long i = first; i < end; i += inner) total += expf(x[i] - greatest);
        for (long long i = first; i < end; i += inner)
            y[i] = log ? x[i] - greatest - logf(total) : expf(x[i] - greatest) / total;
    }
}

// Blocks of 256 / lanes positions, lanes = 2^bits: up to 256.
extern "C" __global__ void __launch_bounds__(256, 5)
softmax_forward(const float* __restrict__ x, float* __restrict__ y, long long outer, long long classes,
                long long inner, long long bits, long long log)
{
    __shared__ float room[THREADS];
    const Place place(outer, classes, inner, bits);
    if (classes <= 4 * place.lanes) forward<4>(place, room, x, y, classes, inner, log);
    else if (classes <= 16 * place.lanes) forward<16>(place, room, x, y, classes, inner, log);
    else forward_online<8>(place, room, x, y, classes, inner, log);
}

// gy, y, gx [outer, classes, inner]
extern "C" __global__ void softmax_backward_sequential(const float* gy, const float* y, float* gx,
                                                       long long outer, long long classes, long long inner,
                                                       long long bits, long long log)
{
    for (long long p = 0; p < outer * inner; p++) {
        const long long first = p / inner * classes * inner + p % inner, end = first + classes * inner;
        float total = 0.0f;
        for (long long i = first; i < end; i += inner) total += log ? gy[i] : gy[i] * y[i];
        for (long long i = first; i < end; i += inner) gx[i] = gradient(gy[i], y[i], total, log);
    }
}

extern "C" __global__ void __launch_bounds__(256, 5)
softmax_backward(const float* __restrict__ gy, const float* __restrict__ y, float* __restrict__ gx,
                 long long outer, long long classes, long long inner, long long bits, long long log)
{
    __shared__ float room[THREADS];
    const Place place(outer, classes, inner, bits);
    if (classes <= 4 * place.lanes) backward<4>(place, room, gy, y, gx, classes, inner, log);
    else if (classes <= 16 * place.lanes) backward<16>(place, room, gy, y, gx, classes, inner, log);
    else backward_twice(place, room, gy, y, gx, classes, inner, log);
}
