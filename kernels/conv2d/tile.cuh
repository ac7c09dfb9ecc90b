// A block's tile of a product of matrices, in shared memory and registers: what conv2d.cu and
// conv2d_weight.cu have in common.
#pragma once

struct Shape {
    int n, c, h, w, k, r, s, p, q, stride_h, stride_w, before_h, before_w, dilation_h, dilation_w, groups;
};

constexpr int DEPTH = 8;

// A tile of M x N sums, TM x TN a thread. A warp's threads are 4 x 8, or fewer rows, to read few
// different numbers; a thread's sums lie in pieces of up to 4 x 4, as wide as one read.
template <int M, int N, int TM, int TN>
struct Tile {
    static constexpr int THREADS = M / TM * (N / TN);
    static constexpr int HIGH = M / TM < 4 ? M / TM : 4, WIDE = 32 / HIGH, ACROSS = N / TN / WIDE;
    static constexpr int A = M + 4, B = N + 4;  // 4 apart: eight depths, four rows, no bank twice
    int y, x;
    float sum[TM][TN];

    __device__ __forceinline__ Tile()
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        y = warp / ACROSS * HIGH + lane / WIDE;
        x = warp % ACROSS * WIDE + lane % WIDE;
#pragma unroll
        for (int i = 0; i < TM * TN; i++) sum[i / TN][i % TN] = 0.0f;
    }

    // Where number i of the COUNT that the thread at `place` has lies among SIZE.
    template <int SIZE, int COUNT>
    static __device__ __forceinline__ int at(int place, int i)
    {
        constexpr int PIECE = COUNT < 4 ? COUNT : 4;
        return i / PIECE * (SIZE / (COUNT / PIECE)) + place * PIECE + i % PIECE;
    }
    __device__ __forceinline__ int row(int i) const { return at<M, TM>(y, i); }
    __device__ __forceinline__ int column(int j) const { return at<N, TN>(x, j); }

    template <int SIZE, int COUNT>
    static __device__ __forceinline__ void read(const float* from, int place, float (&values)[COUNT])
    {
#pragma unroll
        for (int i = 0; i < COUNT; i += 4) {
            if constexpr (COUNT >= 4) {
                const float4 v = *(const float4*)(from + at<SIZE, COUNT>(place, i));
                values[i] = v.x, values[i + 1] = v.y, values[i + 2] = v.z, values[i + 3] = v.w;
            } else {
                const float2 v = *(const float2*)(from + at<SIZE, COUNT>(place, i));
                values[i] = v.x, values[i + 1] = v.y;
            }
        }
    }

    // a [DEPTH][A], b [DEPTH][B] in shared memory.
    __device__ __forceinline__ void multiply(const float* a, const float* b)
    {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            float left[TM], right[TN];
            read<M>(a + d * A, y, left);
            read<N>(b + d * B, x, right);
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++) sum[i][j] += left[i] * right[j];
        }
    }
};

// The steps of a product: load() brings the next one's numbers from memory into registers, store(half)
// puts them into that half of the shared memory at `a` and `b`.
template <class T, class Load, class Store>
__device__ __forceinline__ void accumulate(T& tile, const float* a, const float* b, int steps, Load load,
                                           Store store)
{
    auto pass = [&](int half, bool more) {
        if (more) load();
        tile.multiply(a + half * DEPTH * T::A, b + half * DEPTH * T::B);
        if (more) store(1 - half);
        __syncthreads();
    };
    if (steps > 0) {
        load();
        store(0);
    }
    __syncthreads();
    for (int left = steps; left > 0; left -= 2) {
        pass(0, left > 1);
        if (left > 1) pass(1, left > 2);
    }
}
