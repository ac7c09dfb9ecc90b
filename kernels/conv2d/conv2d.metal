// conv2d and its gradients: cross-correlation of images [n, c, h, w] with filters [k, c / groups, r, s].
//
//   forward, grad_input        the definition's loops, by one thread
//   _sequential
//
//   gather_32                  output and gradient of the input, as products of matrices that are never
//                              written down: filters [rows x depth] times windows [depth x positions],
//                              depth being channel and place in the window. A threadgroup of 128 makes
//                              a tile of 32 x 64 by steps of 8 along the depth: through 6 KiB of
//                              threadgroup memory in two halves, one filled while the other is used; a
//                              thread keeps 4 x 4 sums, 8 numbers read for 16 multiplied. Where in the
//                              image an element of the depth lies is read from a table: no division.
//   gather_8                   the same for few filters: a thread makes eight of them at one position,
//                              and shares nothing but the filters, which all read at the same time
//   sum                        adds what several threadgroups have made of parts of one sum
//
// The gradient of the input is gathered, too: a pixel takes what its windows give. With a stride s only
// every s-th place of a window meets a pixel, and which ones depends on the pixel's row modulo s, so
// that there are s x s phases, each a product of its own without any superfluous factor. The depth of a
// product is split over threadgroups where its tiles alone are too few to fill a GPU; their sums go
// through a workspace (8 bytes an output and split) and are added in order: the same bits each time.
#include <metal_stdlib>
using namespace metal;

struct Shape {
    int n, c, h, w, k, r, s, p, q, stride_h, stride_w, before_h, before_w, dilation_h, dilation_w, groups;
};

// A product: rows of the result in a group, how its operands lie in memory, its phases.
struct Product {
    int rows, row_stride, groups, weights, images, image, channels, h, w, step_h, step_w;
    int out_h, out_w, out_step_h, out_step_w, phases;
};

// Positions [rows, columns]: the first one's pixel in the result and in the source.
struct Phase {
    int steps, first_tap, rows, columns, out_h, out_w, h, w;
};

constexpr constant int DEPTH = 8;

inline float finished(float x, long relu) { return relu && x < 0.0f ? 0.0f : x; }

kernel void conv2d_forward_sequential(
    device const float* x [[buffer(0)]], device const float* weight [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* y [[buffer(3)]],
    device const Shape* shape [[buffer(4)]], device const Product* product [[buffer(5)]],
    device const int4* taps [[buffer(6)]], constant long& has_bias [[buffer(7)]],
    constant long& relu [[buffer(8)]], constant long& splits [[buffer(9)]],
    constant long& tiles [[buffer(10)]])
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

kernel void conv2d_grad_input_sequential(
    device const float* gy [[buffer(0)]], device const float* weight [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* gx [[buffer(3)]],
    device const Shape* shape [[buffer(4)]], device const Product* product [[buffer(5)]],
    device const int4* taps [[buffer(6)]], constant long& has_bias [[buffer(7)]],
    constant long& relu [[buffer(8)]], constant long& splits [[buffer(9)]],
    constant long& tiles [[buffer(10)]])
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

// What a threadgroup makes: row tiles, groups, splits, column tiles, phases, the first innermost.
struct Part {
    int first_row, group, begin, end, positions, count;
    long first_column, out;
    Phase phase;
};

inline Part part_of(uint block, device const Product* product, int m, int n, uint splits, uint tiles)
{
    const Product z = *product;
    const uint row_tiles = (z.rows + m - 1) / m;
    Part part;
    part.first_row = block % row_tiles * m;
    part.group = (block /= row_tiles) % z.groups;
    const long split = (block /= z.groups) % splits;
    part.first_column = (block /= splits) % tiles * long(n);
    part.phase = ((device const Phase*)(product + 1))[block / tiles];
    part.positions = part.phase.rows * part.phase.columns;
    part.count = z.images * part.positions;
    const int each = (part.phase.steps + splits - 1) / splits;
    part.begin = min(int(split) * each, part.phase.steps);
    part.end = min(part.begin + each, part.phase.steps);
    part.out = split * z.images * (z.groups * z.rows) * (z.out_h * z.out_w);
    return part;
}

// The window at a position: its pixel, and where that is in the source.
struct Window {
    int h, w;
    uint at;
};

// Beyond the last position: the last once more.
inline Window window_of(long position, Part part, Product z)
{
    const int column = min(position, long(part.count - 1)), at = column % part.positions;
    Window window;
    window.h = at / part.phase.columns * z.step_h + part.phase.h;
    window.w = at % part.phase.columns * z.step_w + part.phase.w;
    window.at = (column / part.positions * z.channels + part.group * (z.channels / z.groups)) * z.image +
                uint(window.h) * z.w + window.w;
    return window;
}

inline float tapped(device const float* source, Window window, int4 tap, Product z)
{
    const bool inside = uint(window.h) + tap.z < uint(z.h) && uint(window.w) + tap.w < uint(z.w);
    return inside ? source[window.at + tap.y] : 0.0f;
}

// Where the first row's element of a position lies in the result.
inline long out_of(long position, Part part, Product z)
{
    const int at = position % part.positions, image = position / part.positions;
    return part.out + ((long(image) * z.groups + part.group) * z.rows) * z.out_h * z.out_w +
           (at / part.phase.columns * z.out_step_h + part.phase.out_h) * z.out_w +
           at % part.phase.columns * z.out_step_w + part.phase.out_w;
}

// 4 x 4 products of a depth, of four neighbours each in threadgroup memory.
template <class Room>
inline void multiply(Room a, Room b, thread float (&sum)[4][4])
{
    const float left[4] = {a[0], a[1], a[2], a[3]}, right[4] = {b[0], b[1], b[2], b[3]};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) sum[i][j] += left[i] * right[j];
}

kernel void conv2d_gather_32(
    device const float* source [[buffer(0)]], device const float* weight [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* out [[buffer(3)]],
    device const Shape* shape [[buffer(4)]], device const Product* product [[buffer(5)]],
    device const int4* taps [[buffer(6)]], constant long& has_bias [[buffer(7)]],
    constant long& relu [[buffer(8)]], constant long& splits [[buffer(9)]],
    constant long& tiles [[buffer(10)]], uint block [[threadgroup_position_in_grid]],
    uint thread_at [[thread_index_in_threadgroup]])
{
    threadgroup float a[2][8][36], b[2][8][68];  // [half][depth][rows or columns], and four apart
    const Product z = *product;
    const Part part = part_of(block, product, 32, 64, splits, tiles);
    const int steps = part.first_column < part.count ? part.end - part.begin : 0;
    const int lane = thread_at % DEPTH, row = thread_at / DEPTH;
    const int column = thread_at % 64, depth = thread_at / 64, x = thread_at % 16, y = thread_at / 16;
    const Window window = window_of(part.first_column + column, part, z);
    device const float* filters = weight + part.group * z.weights;
    device const int4* tap = taps + part.phase.first_tap + part.begin * DEPTH;

    float sum[4][4], next_a[2], next_b[4];
    for (int i = 0; i < 16; i++) sum[i / 4][i % 4] = 0.0f;
    for (int step = -1; step < steps; step++) {
        const bool more = step + 1 < steps;
        if (more) {
            const int at = tap[lane].x;  // less than 0 behind the depth's end
            for (int i = 0; i < 2; i++) {
                const int m = min(part.first_row + row + 16 * i, z.rows - 1);
                next_a[i] = at < 0 ? 0.0f : filters[m * z.row_stride + at];
            }
            for (int i = 0; i < 4; i++) next_b[i] = tapped(source, window, tap[depth + 2 * i], z);
            tap += DEPTH;
        }
        if (step >= 0)
            for (int d = 0; d < DEPTH; d++) multiply(&a[step % 2][d][4 * y], &b[step % 2][d][4 * x], sum);
        if (more) {
            const int half_at = (step + 1) % 2;
            for (int i = 0; i < 2; i++) a[half_at][lane][row + 16 * i] = next_a[i];
            for (int i = 0; i < 4; i++) b[half_at][depth + 2 * i][column] = next_b[i];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    for (int j = 0; j < 4; j++) {
        const long position = part.first_column + 4 * x + j;
        if (position >= part.count) continue;
        device float* to = out + out_of(position, part, z);
        for (int i = 0; i < 4; i++) {
            const int m = part.first_row + 4 * y + i;
            if (m >= z.rows) continue;
            const float plus = has_bias ? bias[part.group * z.rows + m] : 0.0f;
            to[m * z.out_h * z.out_w] = finished(sum[i][j] + plus, relu);
        }
    }
}

kernel void conv2d_gather_8(
    device const float* source [[buffer(0)]], device const float* weight [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* out [[buffer(3)]],
    device const Shape* shape [[buffer(4)]], device const Product* product [[buffer(5)]],
    device const int4* taps [[buffer(6)]], constant long& has_bias [[buffer(7)]],
    constant long& relu [[buffer(8)]], constant long& splits [[buffer(9)]],
    constant long& tiles [[buffer(10)]], uint block [[threadgroup_position_in_grid]],
    uint thread_at [[thread_index_in_threadgroup]])
{
    const Product z = *product;
    const Part part = part_of(block, product, 8, 128, splits, tiles);
    const long position = part.first_column + thread_at;
    if (position >= part.count) return;
    const Window window = window_of(position, part, z);
    device const float* filters = weight + part.group * z.weights;
    device const int4* tap = taps + part.phase.first_tap;
    float sum[8];
    for (int i = 0; i < 8; i++) sum[i] = 0.0f;
    for (int d = part.begin * DEPTH; d < part.end * DEPTH; d++) {
        const int4 t = tap[d];
        if (t.x < 0) break;  // the depth's end
        const float value = tapped(source, window, t, z);
        for (int i = 0; i < 8; i++)
            sum[i] += filters[min(part.first_row + i, z.rows - 1) * z.row_stride + t.x] * value;
    }
    device float* to = out + out_of(position, part, z);
    for (int i = 0; i < 8; i++) {
        const int m = part.first_row + i;
        if (m >= z.rows) break;
        const float plus = has_bias ? bias[part.group * z.rows + m] : 0.0f;
        to[m * z.out_h * z.out_w] = finished(sum[i] + plus, relu);
    }
}

// out[i] = the sum of parts[s][i], [splits, count]; bias by channel, `plane` elements each. 32 x 8
// threads make 32 sums: eight threads each, every one over every eighth split.
kernel void conv2d_sum(device const float* parts [[buffer(0)]], device const float* bias [[buffer(1)]],
                       device float* out [[buffer(2)]], constant long& count [[buffer(3)]],
                       constant long& splits [[buffer(4)]], constant long& plane [[buffer(5)]],
                       constant long& channels [[buffer(6)]], constant long& has_bias [[buffer(7)]],
                       constant long& relu [[buffer(8)]],
                       uint block [[threadgroup_position_in_grid]],
                       uint thread_at [[thread_index_in_threadgroup]])
{
    threadgroup float sums[8][32];
    const int x = thread_at % 32, y = thread_at / 32;
    const long i = block * 32L + x;
    float sum = 0.0f;
    if (i < count)
        for (int s = y; s < splits; s += 8) sum += parts[s * count + i];
    sums[y][x] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (y || i >= count) return;
    for (int k = 1; k < 8; k++) sum += sums[k][x];
    if (has_bias) sum += bias[int(i) / int(plane) % int(channels)];
    out[i] = finished(sum, relu);
}
