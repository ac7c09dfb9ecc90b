// The gradients of conv2d's weight and bias, from that of the output: sums over all positions.
//
//   _sequential    the definition's loops, by one thread
//   weight_64, 32  the product of gradients [filters x positions] and windows [positions x (c, r, s)],
//                  the latter never written down: tiles as in conv2d.cu, of 64 x 128 by 128 threads
//                  with 8 x 8 sums each, or 32 x 32 by 64 with 4 x 4. A thread steps through the
//                  positions by adding, without a division. They are split over blocks, whose sums go
//                  through a workspace (8 bytes an output and split) and are added in order
//   grad_bias      a channel's sum in a tree, by blocks over slices of the positions

#include "tile.cuh"

extern "C" __global__ void conv2d_grad_weight_sequential(const float* gy, const float* x, float* gw,
                                                         const Shape* shape, const int4*, long long)
{
    const Shape z = *shape;
    const int depth = z.c / z.groups, filters = z.k / z.groups;
    for (int k = 0; k < z.k; k++)
        for (int c = 0; c < depth; c++)
            for (int r = 0; r < z.r; r++)
                for (int s = 0; s < z.s; s++) {
                    float sum = 0.0f;
                    for (int n = 0; n < z.n; n++)
                        for (int p = 0; p < z.p; p++)
                            for (int q = 0; q < z.q; q++) {
                                const int h = p * z.stride_h - z.before_h + r * z.dilation_h;
                                const int w = q * z.stride_w - z.before_w + s * z.dilation_w;
                                if (h < 0 || h >= z.h || w < 0 || w >= z.w) continue;
                                const int channel = k / filters * depth + c;
                                sum += gy[((n * z.k + k) * z.p + p) * z.q + q] *
                                       x[((n * z.c + channel) * z.h + h) * z.w + w];
                            }
                    gw[((k * depth + c) * z.r + r) * z.s + s] = sum;
                }
}

extern "C" __global__ void conv2d_grad_bias_sequential(const float* gy, float* gb, const Shape* shape,
                                                       long long)
{
    const Shape z = *shape;
    for (int k = 0; k < z.k; k++) {
        float sum = 0.0f;
        for (int n = 0; n < z.n; n++)
            for (int i = 0; i < z.p * z.q; i++) sum += gy[(n * z.k + k) * z.p * z.q + i];
        gb[k] = sum;
    }
}

// Blocks: row tiles, column tiles, groups, splits, the first innermost.
template <int M, int N, int TM, int TN>
__device__ __forceinline__ void weight_gradient(const float* __restrict__ gy, const float* __restrict__ x,
                                                float* __restrict__ gw, const Shape* shape,
                                                const int4* __restrict__ taps, int splits, float* a,
                                                float* b)
{
    using T = Tile<M, N, TM, TN>;
    constexpr int APART = T::THREADS / DEPTH, ROWS = M / APART, COLUMNS = N / APART;
    const Shape z = *shape;
    const int rows = z.k / z.groups, depth = z.c / z.groups, columns = depth * z.r * z.s;
    const int plane = z.p * z.q, image = z.h * z.w;
    const unsigned row_tiles = (rows + M - 1) / M, column_tiles = (columns + N - 1) / N;
    unsigned block = blockIdx.x;
    const int first_row = block % row_tiles * M;
    const int first_column = (block /= row_tiles) % column_tiles * N;
    const int group = (block /= column_tiles) % z.groups, split = block / z.groups;

    // A thread loads one place of the depth, stepping through the positions (n, p, q) by DEPTH.
    const int lane = threadIdx.x % DEPTH, row = threadIdx.x / DEPTH;
    const int steps = (z.n * plane + DEPTH - 1LL) / DEPTH, each = (steps + splits - 1) / splits;
    const int begin = min(split * (long long)each, steps + 0LL), end = min(begin + each, steps);
    const int first = begin * DEPTH + lane;
    int n = first / plane, p = first % plane / z.q, q = first % z.q;
    const int next_n = DEPTH / plane, next_p = DEPTH % plane / z.q, next_q = DEPTH % z.q;
    unsigned filters[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++)  // beyond the last: the last once more
        filters[i] = (group * rows + min(first_row + row + i * APART, rows - 1)) * plane;
    int4 tap[COLUMNS];
#pragma unroll
    for (int i = 0; i < COLUMNS; i++) {
        tap[i] = taps[min(first_column + row + i * APART, columns - 1)];
        tap[i].y -= z.before_h * z.w + z.before_w, tap[i].z -= z.before_h, tap[i].w -= z.before_w;
    }

    float next_a[ROWS], next_b[COLUMNS];
    auto load = [&] {
        const bool there = n < z.n;
        const unsigned from = (unsigned)n * z.k * plane + p * z.q + q;
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            next_a[i] = there ? gy[from + filters[i]] : 0.0f;
        const int h = p * z.stride_h, w = q * z.stride_w;
        const unsigned window = ((unsigned)n * z.c + group * depth) * image + (unsigned)h * z.w + w;
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            const bool inside = there && (unsigned)h + tap[i].z < (unsigned)z.h &&
                                (unsigned)w + tap[i].w < (unsigned)z.w;
            next_b[i] = inside ? x[window + tap[i].y] : 0.0f;
        }
        q += next_q;
        const bool row_ends = q >= z.q;
        q -= row_ends ? z.q : 0;
        p += next_p + row_ends;
        const bool image_ends = p >= z.p;
        p -= image_ends ? z.p : 0;
        n += next_n + image_ends;
    };
    auto store = [&](int half) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) a[(half * DEPTH + lane) * T::A + row + i * APART] = next_a[i];
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            b[(half * DEPTH + lane) * T::B + row + i * APART] = next_b[i];
    };
    T tile;
    accumulate(tile, a, b, end - begin, load, store);

    gw += ((long long)split * z.k + group * rows) * columns;
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) {
            const int m = first_row + tile.row(i), column = first_column + tile.column(j);
            if (m < rows && column < columns) gw[m * columns + column] = tile.sum[i][j];
        }
}

extern "C" __global__ void __launch_bounds__(128, 3)
    conv2d_weight_64(const float* gy, const float* x, float* gw, const Shape* shape, const int4* taps,
                     long long splits)
{
    __shared__ float4 a[2 * DEPTH * 17], b[2 * DEPTH * 33];
    weight_gradient<64, 128, 8, 8>(gy, x, gw, shape, taps, splits, (float*)a, (float*)b);
}

extern "C" __global__ void conv2d_weight_32(const float* gy, const float* x, float* gw,
                                            const Shape* shape, const int4* taps, long long splits)
{
    __shared__ float4 a[2 * DEPTH * 9], b[2 * DEPTH * 9];
    weight_gradient<32, 32, 4, 4>(gy, x, gw, shape, taps, splits, (float*)a, (float*)b);
}

// gb[slice][k]: a block's sum over a slice of one channel's positions, in a tree. Blocks: channels,
// slices, the first innermost.
extern "C" __global__ void conv2d_grad_bias(const float* __restrict__ gy, float* __restrict__ gb,
                                            const Shape* shape, long long slices)
{
    __shared__ float sums[8];
    const Shape z = *shape;
    const int k = blockIdx.x % z.k, slice = blockIdx.x / z.k, plane = z.p * z.q, lane = threadIdx.x % 32;
    const int count = z.n * plane, each = (int)((count + slices - 1) / slices);
    const long long end = min((slice + 1LL) * each, count + 0LL);
    float sum = 0.0f;
    for (long long i = (long long)slice * each + threadIdx.x; i < end; i += blockDim.x)
        sum += gy[((int)i / plane * z.k + k) * plane + (int)i % plane];
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (lane == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    for (int i = 1; i < 8; i++) sum += sums[i];
    gb[slice * z.k + k] = sum;
}
