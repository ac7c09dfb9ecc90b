// softmax and log_softmax along the middle of [outer, classes, inner], and their gradients. Bound by
// memory: 8 bytes an element, 12 for the gradient, where each is read once.
//
//   _sequential   one thread; three passes over each position's classes, two for the gradient
//   (plain)       `lanes` threads share a position, each with every lanes-th class in registers, up
//                 to 16, so that memory is read once; what they find is put together
//                   inner = 1, up to 32 lanes: neighbours in a simdgroup, by shuffles, no barrier
//                   inner = 1, up to 256: whole simdgroups, by shuffles and threadgroup memory
//                   inner > 1: 256 / lanes positions lie side by side, so that a simdgroup
//                   reads neighbours in memory; the lanes' numbers meet in a tree in threadgroup
//                   memory
//                 With more classes than 16 lanes hold, a first pass keeps the greatest and the sum
//                 as it goes ("online"), and a second reads again, from the cache mostly.
//
// Sums are of exp(x - greatest). The greatest begins as the least finite number, so that x - greatest
// is never -inf - (-inf) before all is known; a position of nothing but -inf gives NaN, as 0 / 0.

#include <metal_stdlib>
using namespace metal;

constexpr constant int THREADS = 256;
constexpr constant float LEAST = -3.402823466e38f;

// Where a thread works.
struct Place {
    int lanes, thread_index, lane;
    int width;    // how many threads apart the lanes of a position are
    uint at;      // of the position's first class
    bool there;   // beyond the last position, a thread works on that, and writes nothing

    Place(uint outer, uint classes, uint inner, int bits, uint group, uint t)
        : lanes(1 << bits), thread_index(t)
    {
        const int side_by_side = THREADS >> bits;
        width = inner == 1 ? 1 : side_by_side;
        lane = inner == 1 ? t & (lanes - 1) : t >> (8 - bits);
        const uint position = group * side_by_side + (inner == 1 ? t >> bits : t & (side_by_side - 1));
        there = position < outer * inner;
        const uint known = there ? position : outer * inner - 1;
        at = inner == 1 ? known * classes : known / inner * classes * inner + known % inner;
    }
};

struct Max {
    float operator()(float a, float b) const { return fmax(a, b); }
};
struct Sum {
    float operator()(float a, float b) const { return a + b; }
};

// The fold over the lanes of each position. `room` [THREADS]; every thread of the group comes here.
template <class Room, class Fold>
inline float over_lanes(thread const Place& place, Room room, float value, Fold fold)
{
    const int t = place.thread_index;
    if (place.lanes == 1) return value;
    if (place.width == 1) {
        for (int step = min(place.lanes, 32) / 2; step; step /= 2)
            value = fold(value, simd_shuffle_xor(value, ushort(step)));
        if (place.lanes <= 32) return value;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t % 32 == 0) room[t / 32] = value;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int first = (t - place.lane) / 32;
        value = room[first];
        for (int wave = 1; wave < place.lanes / 32; wave++) value = fold(value, room[first + wave]);
        return value;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    room[t] = value;
    for (int near = place.lanes / 2; near; near /= 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (place.lane < near) room[t] = fold(room[t], room[t + near * place.width]);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return room[t & (place.width - 1)];
}

// As many classes a lane as EACH, in registers.
template <int EACH, class Room>
inline void forward(thread const Place& place, Room room, device const float* x, device float* y,
                    int classes, int inner, bool log)
{
    x += place.at, y += place.at;
    float v[EACH], greatest = LEAST, total = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = place.lane + i * place.lanes;
        v[i] = c < classes ? x[c * inner] : -INFINITY;
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) greatest = fmax(greatest, v[i]);
    greatest = over_lanes(place, room, greatest, Max());
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const float e = precise::exp(v[i] - greatest);
        total += e;
        v[i] = log ? v[i] - greatest : e;
    }
    total = over_lanes(place, room, total, Sum());
    const float less = log ? precise::log(total) : 0.0f, factor = log ? 1.0f : 1.0f / total;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = place.lane + i * place.lanes;
        if (place.there && c < classes) y[c * inner] = log ? v[i] - less : v[i] * factor;
    }
}

// Any number of classes, read twice, EACH at a time.
template <int EACH, class Room>
inline void forward_online(thread const Place& place, Room room, device const float* x,
                           device float* y, uint classes, int inner, bool log)
{
    x += place.at, y += place.at;
    const uint lanes = place.lanes;
    float greatest = LEAST, total = 0.0f;
    for (uint first = place.lane; first < classes; first += EACH * lanes) {
        float v[EACH], before = greatest;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const uint c = first + i * lanes;
            v[i] = c < classes ? x[c * inner] : -INFINITY;
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) greatest = fmax(greatest, v[i]);
        total *= precise::exp(before - greatest);
#pragma unroll
        for (int i = 0; i < EACH; i++) total += precise::exp(v[i] - greatest);
    }
    const float most = over_lanes(place, room, greatest, Max());
    total = over_lanes(place, room, total * precise::exp(greatest - most), Sum());
    const float less = log ? precise::log(total) : 0.0f, factor = log ? 1.0f : 1.0f / total;
#pragma unroll 8
    for (uint c = place.lane; c < classes; c += lanes) {
        const float below = x[c * inner] - most;
        if (place.there) y[c * inner] = log ? below - less : precise::exp(below) * factor;
    }
}

// gx of an element, from the sum over the classes of gy, or of gy y where it is not the logarithm.
inline float gradient(float gy, float y, float total, bool log)
{
    return log ? gy - precise::exp(y) * total : y * (gy - total);
}

template <int EACH, class Room>
inline void backward(thread const Place& place, Room room, device const float* gy,
                     device const float* y, device float* gx, int classes, int inner, bool log)
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

template <class Room>
inline void backward_twice(thread const Place& place, Room room, device const float* gy,
                           device const float* y, device float* gx, uint classes, int inner, bool log)
{
    gy += place.at, y += place.at, gx += place.at;
    float total = 0.0f;
#pragma unroll 8
    for (uint c = place.lane; c < classes; c += place.lanes)
        total += log ? gy[c * inner] : gy[c * inner] * y[c * inner];
    total = over_lanes(place, room, total, Sum());
#pragma unroll 8
    for (uint c = place.lane; c < classes; c += place.lanes)
        if (place.there) gx[c * inner] = gradient(gy[c * inner], y[c * inner], total, log);
}

// x, y [outer, classes, inner]
kernel void softmax_forward_sequential(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    constant long& outer [[buffer(2)]], constant long& classes [[buffer(3)]],
    constant long& inner [[buffer(4)]], constant long& bits [[buffer(5)]],
    constant long& log [[buffer(6)]])
{
    for (long p = 0; p < outer * inner; p++) {
        const long first = p / inner * classes * inner + p % inner, end = first + classes * inner;
        float greatest = LEAST, total = 0.0f;
        for (long i = first; i < end; i += inner) greatest = fmax(greatest, x[i]);
        for (long i = first; i < end; i += inner) total += precise::exp(x[i] - greatest);
        for (long i = first; i < end; i += inner)
            y[i] = log ? x[i] - greatest - precise::log(total) : precise::exp(x[i] - greatest) / total;
    }
}

// Threadgroups of 256 / lanes positions, lanes = 2^bits: up to 256.
kernel void softmax_forward(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    constant long& outer [[buffer(2)]], constant long& classes [[buffer(3)]],
    constant long& inner [[buffer(4)]], constant long& bits [[buffer(5)]],
    constant long& log [[buffer(6)]], uint group [[threadgroup_position_in_grid]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[THREADS];
    const Place place(outer, classes, inner, bits, group, t);
    if (classes <= 4 * place.lanes) forward<4>(place, &room[0], x, y, classes, inner, log);
    else if (classes <= 16 * place.lanes) forward<16>(place, &room[0], x, y, classes, inner, log);
    else forward_online<8>(place, &room[0], x, y, classes, inner, log);
}

// gy, y, gx [outer, classes, inner]
kernel void softmax_backward_sequential(
    device const float* gy [[buffer(0)]], device const float* y [[buffer(1)]],
    device float* gx [[buffer(2)]], constant long& outer [[buffer(3)]],
    constant long& classes [[buffer(4)]], constant long& inner [[buffer(5)]],
    constant long& bits [[buffer(6)]], constant long& log [[buffer(7)]])
{
    for (long p = 0; p < outer * inner; p++) {
        const long first = p / inner * classes * inner + p % inner, end = first + classes * inner;
        float total = 0.0f;
        for (long i = first; i < end; i += inner) total += log ? gy[i] : gy[i] * y[i];
        for (long i = first; i < end; i += inner) gx[i] = gradient(gy[i], y[i], total, log);
    }
}

kernel void softmax_backward(
    device const float* gy [[buffer(0)]], device const float* y [[buffer(1)]],
    device float* gx [[buffer(2)]], constant long& outer [[buffer(3)]],
    constant long& classes [[buffer(4)]], constant long& inner [[buffer(5)]],
    constant long& bits [[buffer(6)]], constant long& log [[buffer(7)]],
    uint group [[threadgroup_position_in_grid]], uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[THREADS];
    const Place place(outer, classes, inner, bits, group, t);
    if (classes <= 4 * place.lanes) backward<4>(place, &room[0], gy, y, gx, classes, inner, log);
    else if (classes <= 16 * place.lanes) backward<16>(place, &room[0], gy, y, gx, classes, inner, log);
    else backward_twice(place, &room[0], gy, y, gx, classes, inner, log);
}
