// avg_pool2d, adaptive_avg_pool2d and their gradients: means over any grid of windows. Bound by
// memory: 4 bytes an input and 4 an output, either way.
//
//   _sequential   one thread passes over everything, window by window
//   (plain)       forward a thread makes one output, backward one input, from all windows over it
//   halving       windows of 2 x 2, two apart, over an even width: a thread makes `each` outputs side
//                 by side, 1 or 2, and backward the 2 rows of 2 `each` inputs above them
//   team          where the mean is over whole rows of the image (above all, over the whole image),
//                 whose numbers lie one after another: 32 or 256 threads share a window, add up every
//                 32nd or 256th of its numbers each, and then their sums in a tree; backward, where
//                 the window is the image, they write it
//
// `rows` [3 P + 2 H] tells for each window its first row, how many are inside and its share of the
// divisor, which is the product of the row's and the column's, and for each row of the input the
// first window over it and the end of them; `columns` [3 Q + 2 W] the same.
#include <metal_stdlib>
using namespace metal;

// Of a window [P, Q] and of its sum.
inline float divisor(device const long* rows, device const long* columns, int p, int q, int P, int Q)
{
    return float(rows[2 * P + p] * columns[2 * Q + q]);
}

// One window of an image [H, W]: each row's numbers, then the rows' sums.
inline float mean(device const float* image, device const long* rows, device const long* columns, int p,
                  int q, int P, int Q, int W)
{
    const int top = int(rows[p]), left = int(columns[q]);
    const int down = int(rows[P + p]), across = int(columns[Q + q]);
    float sum = 0;
    for (int r = 0; r < down; r++) {
        device const float* row = image + (top + r) * W + left;
        float line = 0;
        for (int s = 0; s < across; s++) line += row[s];
        sum += line;
    }
    return sum / divisor(rows, columns, p, q, P, Q);
}

// x [planes, H, W], y [planes, P, Q]
kernel void avg_pool2d_forward_sequential(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    device const long* rows [[buffer(2)]], device const long* columns [[buffer(3)]],
    constant long& planes [[buffer(4)]], constant long& H [[buffer(5)]], constant long& W [[buffer(6)]],
    constant long& P [[buffer(7)]], constant long& Q [[buffer(8)]], constant long& halving [[buffer(9)]],
    constant long& each [[buffer(10)]], constant long& team [[buffer(11)]])
{
    for (long plane = 0; plane < planes; plane++)
        for (int p = 0; p < P; p++)
            for (int q = 0; q < Q; q++)
                y[(plane * P + p) * Q + q] = mean(x + plane * H * W, rows, columns, p, q, P, Q, W);
}

// Thread `id` makes `each` outputs side by side.
inline void forward_halving(device const float* x, device float* y, device const long* rows,
                            device const long* columns, uint planes, int H, int W, int P, uint each,
                            uint id)
{
    const int Q = W / 2;
    const uint groups = Q / each, line = id / groups, plane = line / uint(P);
    if (plane >= planes) return;
    const int p = line % uint(P);
    for (int q = each * (id % groups), end = q + each; q < end; q++) {
        device const float* from = x + long(plane) * H * W + 2 * p * W + 2 * q;
        float sum = from[0] + from[1];
        if (2 * p + 1 < H) sum += from[W] + from[W + 1];
        y[long(line) * Q + q] = sum / divisor(rows, columns, p, q, P, Q);
    }
}

// As many threads as outputs, times `team`; where halving, one for `each` outputs. 256 a threadgroup.
kernel void avg_pool2d_forward(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    device const long* rows [[buffer(2)]], device const long* columns [[buffer(3)]],
    constant long& planes [[buffer(4)]], constant long& H [[buffer(5)]], constant long& W [[buffer(6)]],
    constant long& P [[buffer(7)]], constant long& Q [[buffer(8)]], constant long& halving [[buffer(9)]],
    constant long& each [[buffer(10)]], constant long& team [[buffer(11)]],
    uint group [[threadgroup_position_in_grid]], uint t [[thread_position_in_threadgroup]],
    uint threads [[threads_per_threadgroup]])
{
    threadgroup float sums[8];
    const uint id = (ulong(group) * threads + t) / uint(team), lane = t % uint(team);
    if (halving) {
        forward_halving(x, y, rows, columns, planes, H, W, P, each, id);
        return;
    }
    const uint line = id / uint(Q), plane = line / uint(P);
    const int p = line % uint(P), q = id % uint(Q);
    device const float* image = x + plane * H * W;
    if (team == 1) {
        if (plane < planes) y[id] = mean(image, rows, columns, p, q, P, Q, W);
        return;
    }
    float sum = 0;
    if (plane < planes) {
        device const float* from = image + rows[p] * W;
        const int size = int(rows[P + p]) * int(W);
        for (int i = lane; i < size; i += int(team)) sum += from[i];
    }
    sum = simd_sum(sum);
    if (team > 32) {  // one window a threadgroup
        if (t % 32 == 0) sums[t / 32] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t == 0)
            for (int simd = 1; simd < 8; simd++) sum += sums[simd];
    }
    if (lane == 0 && plane < planes) y[id] = sum / divisor(rows, columns, p, q, P, Q);
}

// What the windows over one input of an image give it, of their [P, Q].
inline float gathered(device const float* gy, device const long* rows, device const long* columns,
                      int i, int j, int H, int W, int P, int Q)
{
    const int p_end = int(rows[3 * P + H + i]), q_end = int(columns[3 * Q + W + j]);
    float sum = 0;
    for (int p = int(rows[3 * P + i]); p < p_end; p++)
        for (int q = int(columns[3 * Q + j]); q < q_end; q++)
            sum += gy[p * Q + q] / divisor(rows, columns, p, q, P, Q);
    return sum;
}

// gy [planes, P, Q], gx [planes, H, W]
kernel void avg_pool2d_backward_sequential(
    device const float* gy [[buffer(0)]], device float* gx [[buffer(1)]],
    device const long* rows [[buffer(2)]], device const long* columns [[buffer(3)]],
    constant long& planes [[buffer(4)]], constant long& H [[buffer(5)]], constant long& W [[buffer(6)]],
    constant long& P [[buffer(7)]], constant long& Q [[buffer(8)]], constant long& halving [[buffer(9)]],
    constant long& each [[buffer(10)]], constant long& team [[buffer(11)]])
{
    for (long plane = 0; plane < planes; plane++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++)
                gx[(plane * H + i) * W + j] =
                    gathered(gy + plane * P * Q, rows, columns, i, j, H, W, P, Q);
}

// Thread `id` makes 2 rows of 2 `each` inputs.
inline void backward_halving(device const float* gy, device float* gx, device const long* rows,
                             device const long* columns, uint planes, int H, int W, int P, uint each,
                             uint id)
{
    const int Q = W / 2;
    const uint groups = Q / each, line = id / groups, pairs = (H + 1) / 2, plane = line / pairs;
    if (plane >= planes) return;
    const int p = line % pairs;
    for (int q = each * (id % groups), end = q + each; q < end; q++) {
        float given = 0;
        if (p < P)
            given = gy[(long(plane) * P + p) * Q + q] / divisor(rows, columns, p, q, P, Q);
        device float* to = gx + (long(plane) * H + 2 * p) * W + 2 * q;
        to[0] = to[1] = given;
        if (2 * p + 1 < H) to[W] = to[W + 1] = given;
    }
}

// As many threads as inputs; where halving, one for 2 rows of 2 `each` of them; or `team` an image.
kernel void avg_pool2d_backward(
    device const float* gy [[buffer(0)]], device float* gx [[buffer(1)]],
    device const long* rows [[buffer(2)]], device const long* columns [[buffer(3)]],
    constant long& planes [[buffer(4)]], constant long& H [[buffer(5)]], constant long& W [[buffer(6)]],
    constant long& P [[buffer(7)]], constant long& Q [[buffer(8)]], constant long& halving [[buffer(9)]],
    constant long& each [[buffer(10)]], constant long& team [[buffer(11)]],
    uint group [[threadgroup_position_in_grid]], uint t [[thread_position_in_threadgroup]],
    uint threads [[threads_per_threadgroup]])
{
    const uint id = (ulong(group) * threads + t) / uint(team);
    if (halving) {
        backward_halving(gy, gx, rows, columns, planes, H, W, P, each, id);
    } else if (team > 1) {
        if (id >= planes) return;
        const float given = gy[id] / divisor(rows, columns, 0, 0, 1, 1);
        device float* to = gx + id * H * W;
        const int size = H * W;
        for (int i = t % uint(team); i < size; i += int(team)) to[i] = given;
    } else {
        const uint line = id / uint(W), plane = line / uint(H);
        if (plane >= planes) return;
        gx[id] = gathered(gy + plane * P * Q, rows, columns, line % uint(H), id % uint(W), H, W, P, Q);
    }
}
