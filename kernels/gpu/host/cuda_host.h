// CUDA C++ for g++: what a `.cu` file's words mean on the host grid. Only what the sources here use.
#pragma once

#include <algorithm>
#include <cmath>

#include "grid.h"

#define __global__
#define __device__ __attribute__((unused))
#define __forceinline__ inline
#define __shared__ HOST_GRID_SHARED
#define __constant__ static const
#define __launch_bounds__(...)
#define __restrict__ __restrict

using dim3 = host_grid::Dim3;
#define threadIdx (::host_grid::thread_index())
#define blockIdx (::host_grid::block_index())
#define blockDim (::host_grid::block_size())
#define gridDim (::host_grid::grid_size())
constexpr int warpSize = host_grid::WARP;

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(16) longlong2 {
    long long x, y;
};
static inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static inline void __syncthreads() { host_grid::block_barrier(); }
static inline void __syncwarp(unsigned = 0xffffffffu) { host_grid::warp_barrier(); }

// The mask has to be full: a shuffle of some lanes only is undefined for the others.
template <class T>
static inline T __shfl_sync(unsigned, T value, int lane) {
    return host_grid::from_lane(value, unsigned(lane) % host_grid::WARP);
}
template <class T>
static inline T __shfl_xor_sync(unsigned, T value, int mask) {
    return host_grid::from_lane(value, (host_grid::thread_linear() % host_grid::WARP) ^ unsigned(mask));
}
template <class T>
static inline T __shfl_down_sync(unsigned, T value, unsigned delta) {
    return host_grid::from_lane(value, host_grid::thread_linear() % host_grid::WARP + delta);
}

template <class T>
static inline T __ldg(const T* address) {
    return *address;
}
static inline float __int_as_float(int bits) { float f; std::memcpy(&f, &bits, sizeof f); return f; }
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
static inline float __fdividef(float x, float y) { return x / y; }
using std::max;
using std::min;
using std::isinf;
using std::isnan;
