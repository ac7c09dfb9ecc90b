// The gradients of conv2d's weight and bias, from that of the output: sums over all positions.
//
//   _sequential   the definition's loops, by one thread
//   weight_32     the product of gradients [filters x positions] and windows [positions x (c, r, s)],
//                 the latter never written down: a threadgroup of 64 makes a tile of 32 x 32, by steps
//                 of 8 positions through 4.5 KiB of threadgroup memory in two halves; 4 x 4 sums a
//                 thread. The positions are split over threadgroups, whose sums go through a workspace
//   grad_bias     a channel's sum in a tree, by threadgroups over slices of the positions
#include <metal_stdlib>
using namespace metal;

struct Shape {
    int n, c, h, w, k, r, s, p, q, stride_h, stride_w, before_h, before_w, dilation_h, dilation_w, groups;
};

constexpr constant int DEPTH = 8;

kernel void conv2d_grad_weight_sequential(
    device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
    device float* gw [[buffer(2)]], device const Shape* shape [[buffer(3)]],
    device const int4* taps [[buffer(4)]], constant long& splits [[buffer(5)]])
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

kernel void conv2d_grad_bias_sequential(device const float* gy [[buffer(0)]],
                                        device float* gb [[buffer(1)]],
                                        device const Shape* shape [[buffer(2)]],
                                        constant long& slices [[buffer(3)]])
{
    const Shape z = *shape;
    for (int k = 0; k < z.k; k++) {
        float sum = 0.0f;
        for (int n = 0; n < z.n; n++)
            for (int i = 0; i < z.p * z.q; i++) sum += gy[(n * z.k + k) * z.p * z.q + i];
        gb[k] = sum;
    }
}

// 4 x 4 products of a depth, of four neighbours each in threadgroup memory.
template <class Room>
inline void multiply(Room a, Room b, thread float (&sum)[4][4])
{
    const float left[4] = {a[0], a[1], a[2], a[3]}, right[4] = {b[0], b[1], b[2], b[3]};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) sum[i][j] += left[i] * right[j];
}

// Threadgroups: row tiles, column tiles, groups, splits, the first innermost.
kernel void conv2d_weight_32(
    device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
    device float* gw [[buffer(2)]], device const Shape* shape [[buffer(3)]],
    device const int4* taps [[buffer(4)]], constant long& splits [[buffer(5)]],
    uint block [[threadgroup_position_in_grid]], uint thread_at [[thread_index_in_threadgroup]])
{
    threadgroup float a[2][8][36], b[2][8][36];  // [half][depth][rows or columns], and four apart
    const Shape z = *shape;
    const int rows = z.k / z.groups, depth = z.c / z.groups, columns = depth * z.r * z.s;
    const int plane = z.p * z.q, image = z.h * z.w;
    const uint row_tiles = (rows + 31) / 32, column_tiles = (columns + 31) / 32;
    const int first_row = block % row_tiles * 32;
    const int first_column = (block /= row_tiles) % column_tiles * 32;
    const int group = (block /= column_tiles) % z.groups, split = block / z.groups;

    // A thread loads one place of the depth, stepping through the positions (n, p, q) by DEPTH.
    const int lane = thread_at % DEPTH, row = thread_at / DEPTH;
    const int all = (z.n * long(plane) + DEPTH - 1) / DEPTH, each = (all + splits - 1) / splits;
    const int begin = min(split * long(each), long(all)), end = min(begin + each, all);
    const int first = begin * DEPTH + lane;
    int n = first / plane, p = first % plane / z.q, q = first % z.q;
    const int next_n = DEPTH / plane, next_p = DEPTH % plane / z.q, next_q = DEPTH % z.q;
    int4 tap[4];
    for (int i = 0; i < 4; i++) tap[i] = taps[min(first_column + row + 8 * i, columns - 1)];

    float sum[4][4], next_a[4], next_b[4];
    for (int i = 0; i < 16; i++) sum[i / 4][i % 4] = 0.0f;
    for (int step = -1; step < end - begin; step++) {
        const bool more = step + 1 < end - begin;
        if (more) {
            const bool there = n < z.n;
            const int h = p * z.stride_h - z.before_h, w = q * z.stride_w - z.before_w;
            const long from = (long(n) * z.k + group * rows) * plane + p * z.q + q;
            const uint window = (uint(n) * z.c + group * depth) * image + uint(h) * z.w + w;
            for (int i = 0; i < 4; i++) {
                const int m = min(first_row + row + 8 * i, rows - 1);
                next_a[i] = there ? gy[from + m * plane] : 0.0f;
                const bool inside = there && uint(h) + tap[i].z < uint(z.h) &&
                                    uint(w) + tap[i].w < uint(z.w);
                next_b[i] = inside ? x[window + tap[i].y] : 0.0f;
            }
            q += next_q;
            const int row_ends = q >= z.q;
            q -= row_ends * z.q;
            p += next_p + row_ends;
            const int image_ends = p >= z.p;
            p -= image_ends * z.p;
            n += next_n + image_ends;
        }
        if (step >= 0)
            for (int d = 0; d < DEPTH; d++)
                multiply(&a[step % 2][d][thread_at / 8 * 4], &b[step % 2][d][thread_at % 8 * 4], sum);
        if (more)
            for (int i = 0; i < 4; i++) {
                a[(step + 1) % 2][lane][row + 8 * i] = next_a[i];
                b[(step + 1) % 2][lane][row + 8 * i] = next_b[i];
            }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    device float* to = gw + (long(split) * z.k + group * rows) * columns;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const int m = first_row + thread_at / 8 * 4 + i, column = first_column + thread_at % 8 * 4 + j;
            if (m < rows && column < columns) to[m * columns + column] = sum[i][j];
        }
}

// gb[slice][k]: a threadgroup's sum over a slice of one channel's positions, in a tree.
// Threadgroups: channels, slices, the first innermost; 256 threads.
kernel void conv2d_grad_bias(device const float* gy [[buffer(0)]], device float* gb [[buffer(1)]],
                             device const Shape* shape [[buffer(2)]],
                             constant long& slices [[buffer(3)]],
                             uint block [[threadgroup_position_in_grid]],
                             uint thread_at [[thread_index_in_threadgroup]])
{
    threadgroup float sums[8];
    const Shape z = *shape;
    const int k = block % z.k, slice = block / z.k, plane = z.p * z.q;
    const int count = z.n * plane, each = (count + slices - 1) / slices;
    const long end = min((slice + 1L) * each, long(count));
    float sum = 0.0f;
    for (long i = long(slice) * each + thread_at; i < end; i += 256)
        sum += gy[(int(i) / plane * z.k + k) * plane + int(i) % plane];
    sum = simd_sum(sum);
    if (thread_at % 32 == 0) sums[thread_at / 32] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_at) return;
    for (int i = 1; i < 8; i++) sum += sums[i];
    gb[slice * z.k + k] = sum;
}
