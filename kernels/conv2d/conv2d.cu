// conv2d and its gradients: cross-correlation of images [n, c, h, w] with filters [k, c / groups, r, s].
//
//   forward, grad_input        the definition's loops, by one thread
//   _sequential
//
//   gather_128, _64, _32, _8   output and gradient of the input, as products of matrices that are never
//                              written down: filters [rows x depth] times windows [depth x positions],
//                              depth being channel and place in the window. A block makes a tile of
//                              128, 64 or 32 x 128, or 8 x 256 for few filters, by steps of 8 along
//                              the depth: through 11 to 17 KiB of shared memory in two halves, one
//                              filled while the other is used. A thread of its 128 (256 in the largest)
//                              keeps 8 x 8 sums in registers (8 x 4, 8 x 2), for which it reads 16
//                              numbers (12, 10) a place of the depth: 64 multiplications by 4 loads.
//                              Where in the image a place of the depth lies is read from a table, so
//                              that nothing is divided in the loop
//   sum                        adds what several blocks have made of parts of one sum
//
// The gradient of the input is gathered, too: a pixel takes what its windows give. With a stride s only
// every s-th place of a window meets a pixel, and which ones depends on the pixel's row modulo s, so
// that there are s x s phases, each a product of its own without any superfluous factor. The depth of a
// product is split over blocks where its tiles alone are too few to fill a GPU; their sums go through a
// workspace (8 bytes an output and split) and are added in order: the same bits each time.

#include "tile.cuh"

// A product: rows of the result in a group, how its operands lie in memory, its phases.
struct Product {
    int rows, row_stride, groups, weights, images, image, channels, h, w, step_h, step_w;
    int out_h, out_w, out_step_h, out_step_w, phases;
};

// Positions [rows, columns]: the first one's pixel in the result and in the source.
struct Phase {
    int steps, first_tap, rows, columns, out_h, out_w, h, w;
};

__device__ inline float finished(float x, long long relu) { return relu && x < 0.0f ? 0.0f : x; }

__device__ inline bool on_16_bytes(const void* p) { return (unsigned long long)p % 16 == 0; }

extern "C" __global__ void conv2d_forward_sequential(
    const float* x, const float* weight, const float* bias, float* y, const Shape* shape,
    const Product*, const int4*, long long has_bias, long long relu, long long, long long)
{
    const Shape z = *shape;
    const int depth = z.c / z.groups, filters = z.k / z.groups;
    for (int n = 0; n < z.n; n++)
        for (int k = 0; k < z.k; k++)
            for (int p = 0; p < z.p; p++)
                for (int q = 0; q < z.q; q++) {
                    float sum = has_bias ? bias[k] : 0.0f;
                    for (int c = 0; c < depth; c++)
                        for (int r = 0; r < z.r; r++)
                            for (int s = 0; s < z.s; s++) {
                                const int h = p * z.stride_h - z.before_h + r * z.dilation_h;
                                const int w = q * z.stride_w - z.before_w + s * z.dilation_w;
                                if (h < 0 || h >= z.h || w < 0 || w >= z.w) continue;
                                const int channel = k / filters * depth + c;
                                sum += weight[((k * depth + c) * z.r + r) * z.s + s] *
                                       x[((n * z.c + channel) * z.h + h) * z.w + w];
                            }
                    y[((n * z.k + k) * z.p + p) * z.q + q] = finished(sum, relu);
                }
}

extern "C" __global__ void conv2d_grad_input_sequential(
    const float* gy, const float* weight, const float*, float* gx, const Shape* shape, const Product*,
    const int4*, long long, long long, long long, long long)
{
    const Shape z = *shape;
    const int depth = z.c / z.groups, filters = z.k / z.groups;
    for (int n = 0; n < z.n; n++)
        for (int c = 0; c < z.c; c++)
            for (int h = 0; h < z.h; h++)
                for (int w = 0; w < z.w; w++) {
                    float sum = 0.0f;
                    for (int f = 0; f < filters; f++)
                        for (int r = 0; r < z.r; r++)
                            for (int s = 0; s < z.s; s++) {
                                const int from_h = h + z.before_h - r * z.dilation_h;
                                const int from_w = w + z.before_w - s * z.dilation_w;
                                if (from_h % z.stride_h || from_w % z.stride_w) continue;
                                const int p = from_h / z.stride_h, q = from_w / z.stride_w;
                                if (p < 0 || p >= z.p || q < 0 || q >= z.q) continue;
                                const int k = c / depth * filters + f;
                                sum += weight[((k * depth + c % depth) * z.r + r) * z.s + s] *
                                       gy[((n * z.k + k) * z.p + p) * z.q + q];
                            }
                    gx[((n * z.c + c) * z.h + h) * z.w + w] = sum;
                }
}

// Blocks: row tiles, groups, splits, column tiles, phases, the first innermost.
template <int M, int N, int TM, int TN>
__device__ __forceinline__ void gather(const float* __restrict__ source, const float* __restrict__ weight,
                                       const float* __restrict__ bias, float* __restrict__ out,
                                       const Product* product, const int4* __restrict__ taps,
                                       int has_bias, int relu, int splits, int tiles, float* a, float* b)
{
    using T = Tile<M, N, TM, TN>;
    constexpr int APART = T::THREADS / DEPTH, ROWS = M < APART ? 1 : M / APART;
    constexpr int COLUMNS = N < T::THREADS ? 1 : N / T::THREADS, DEEP = N * DEPTH / T::THREADS / COLUMNS;
    const Product z = *product;
    const unsigned row_tiles = (z.rows + M - 1) / M;
    unsigned block = blockIdx.x;
    const int first_row = block % row_tiles * M;
    const int group = (block /= row_tiles) % z.groups;
    const int split = (block /= z.groups) % splits;
    const long long first_column = (block /= splits) % tiles * (long long)N;
    const Phase phase = ((const Phase*)(product + 1))[block / tiles];
    const int positions = phase.rows * phase.columns, count = z.images * positions;
    if (first_column >= count) return;

    // What a thread loads: one place of the depth of ROWS filters, DEEP places of COLUMNS windows.
    const int lane = threadIdx.x % DEPTH, row = threadIdx.x / DEPTH;
    const int first = threadIdx.x % N, deep = threadIdx.x / N * DEEP;
    unsigned filters[ROWS], windows[COLUMNS];
    int h[COLUMNS], w[COLUMNS];
#pragma unroll
    for (int i = 0; i < ROWS; i++)  // beyond the last: the last once more
        filters[i] = group * z.weights + min(first_row + row + i * APART, z.rows - 1) * z.row_stride;
#pragma unroll
    for (int i = 0; i < COLUMNS; i++) {
        const int column = min(first_column + first + i * T::THREADS, count - 1LL), at = column % positions;
        h[i] = at / phase.columns * z.step_h + phase.h;
        w[i] = at % phase.columns * z.step_w + phase.w;
        const unsigned image = column / positions * z.channels + group * (z.channels / z.groups);
        windows[i] = image * z.image + (unsigned)h[i] * z.w + w[i];
    }
    float next_a[ROWS], next_b[DEEP][COLUMNS];
    const int each = (phase.steps + splits - 1) / splits, begin = min(split * each, phase.steps);
    const int4* tap = taps + phase.first_tap + begin * DEPTH;
    auto load = [&] {
        const int at = tap[lane].x;  // less than 0 behind the depth's end
#pragma unroll
        for (int i = 0; i < ROWS; i++) next_a[i] = at < 0 ? 0.0f : weight[filters[i] + at];
#pragma unroll
        for (int d = 0; d < DEEP; d++) {
            const int4 t = tap[deep + d];
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) {
                const bool inside =
                    (unsigned)h[i] + t.z < (unsigned)z.h && (unsigned)w[i] + t.w < (unsigned)z.w;
                next_b[d][i] = inside ? source[windows[i] + t.y] : 0.0f;
            }
        }
        tap += DEPTH;
    };
    auto store = [&](int half) {
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            if (M >= APART || row < M) a[(half * DEPTH + lane) * T::A + row + i * APART] = next_a[i];
#pragma unroll
        for (int d = 0; d < DEEP; d++)
#pragma unroll
            for (int i = 0; i < COLUMNS; i++)
                b[(half * DEPTH + deep + d) * T::B + first + i * T::THREADS] = next_b[d][i];
    };
    T tile;
    accumulate(tile, a, b, min(each, phase.steps - begin), load, store);

    const int channels = z.groups * z.rows, plane = z.out_h * z.out_w, channel = group * z.rows;
    out += split * (long long)z.images * channels * plane;
    const bool whole = z.phases == 1 && plane % 4 == 0 && TN >= 4 && on_16_bytes(out);
#pragma unroll
    for (int j = 0; j < TN; j++) {
        const long long column = first_column + tile.column(j);
        if (column >= count || (whole && j % 4)) continue;
        const int at = column % positions, image = column / positions;
        float* to = out + (image * channels + channel) * plane +
                    (at / phase.columns * z.out_step_h + phase.out_h) * z.out_w +
                    at % phase.columns * z.out_step_w + phase.out_w;
#pragma unroll
        for (int i = 0; i < TM; i++) {
            const int m = first_row + tile.row(i);
            if (m >= z.rows) continue;
            const float plus = has_bias ? bias[channel + m] : 0.0f;
            auto value = [&](int k) { return finished(tile.sum[i][min(j + k, TN - 1)] + plus, relu); };
            if (whole) *(float4*)(to + m * plane) = make_float4(value(0), value(1), value(2), value(3));
            else to[m * plane] = value(0);
        }
    }
}

// a and b: room for both halves of a tile's operands; float4, for they are read so.
extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_gather_128(const float* source, const float* weight, const float* bias, float* out,
                      const Shape*, const Product* product, const int4* taps, long long has_bias,
                      long long relu, long long splits, long long tiles)
{
    __shared__ float4 a[2 * DEPTH * 33], b[2 * DEPTH * 33];
    gather<128, 128, 8, 8>(source, weight, bias, out, product, taps, has_bias, relu, splits, tiles,
                           (float*)a, (float*)b);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    conv2d_gather_64(const float* source, const float* weight, const float* bias, float* out,
                     const Shape*, const Product* product, const int4* taps, long long has_bias,
                     long long relu, long long splits, long long tiles)
{
    __shared__ float4 a[2 * DEPTH * 17], b[2 * DEPTH * 33];
    gather<64, 128, 8, 8>(source, weight, bias, out, product, taps, has_bias, relu, splits, tiles,
                          (float*)a, (float*)b);
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_gather_32(const float* source, const float* weight, const float* bias, float* out,
                     const Shape*, const Product* product, const int4* taps, long long has_bias,
                     long long relu, long long splits, long long tiles)
{
    __shared__ float4 a[2 * DEPTH * 9], b[2 * DEPTH * 33];
    gather<32, 128, 8, 4>(source, weight, bias, out, product, taps, has_bias, relu, splits, tiles,
                          (float*)a, (float*)b);
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_gather_8(const float* source, const float* weight, const float* bias, float* out,
                    const Shape*, const Product* product, const int4* taps, long long has_bias,
                    long long relu, long long splits, long long tiles)
{
    __shared__ float4 a[2 * DEPTH * 3], b[2 * DEPTH * 65];
    gather<8, 256, 8, 2>(source, weight, bias, out, product, taps, has_bias, relu, splits, tiles,
                         (float*)a, (float*)b);
}

// out[i] = the sum of parts[s][i], [splits, count]; bias by channel, `plane` elements each. A block of
// 32 x 8 threads makes 32 sums: eight threads each, every one over every eighth split.
extern "C" __global__ void conv2d_sum(const float* __restrict__ parts, const float* __restrict__ bias,
                                      float* __restrict__ out, long long count, long long splits,
                                      long long plane, long long channels, long long has_bias,
                                      long long relu)
{
    __shared__ float sums[8][32];
    const int x = threadIdx.x % 32, y = threadIdx.x / 32;
    const long long i = blockIdx.x * 32LL + x;
    float sum = 0.0f;
    if (i < count)
        for (int s = y; s < splits; s += 8) sum += parts[s * count + i];
    sums[y][x] = sum;
    __syncthreads();
    if (y || i >= count) return;
    for (int k = 1; k < 8; k++) sum += sums[k][x];
    if (has_bias) sum += bias[(int)i / (int)plane % (int)channels];
    out[i] = finished(sum, relu);
}
