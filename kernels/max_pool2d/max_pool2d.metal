// max_pool2d and its gradient. Bound by memory: 4 bytes an input and 4 an output, 8 more where the
// indices are wanted; the gradient reads 12 bytes an output and writes 4 an input.
//
//   _sequential   one thread passes over everything, window by window
//   (plain)       forward a thread makes one output, backward one input: it gathers from all windows
//                 that may have taken it, so that no two threads write to one place and every run
//                 adds in the same order
//   halving       the windows of most networks: 2 x 2, or 3 x 3 padded by 1, two apart, over an even
//                 width. There a thread makes `each` outputs side by side, 1 or 2, and backward the 2
//                 rows of 2 `each` inputs above them: fewer loads, and no loop with a length to look up
//
// The greatest is the first one, and NaN is greater than all: the last NaN counts, as in torch. A
// window that dilation has left empty is -inf, its index where its first number would be.
//
// `rows` [3 P + 2 H] tells for each window its first row and how many are inside (and a share, which
// means here nothing), and for each row of the input the first window over it and the end of them;
// `columns` [3 Q + 2 W] the same.
#include <metal_stdlib>
using namespace metal;

// v is taken: where it is greater, and wherever it is NaN.
inline void take(float v, int place, thread float& best, thread long& index)
{
    if (v > best || v != v) {
        best = v;
        index = place;
    }
}

// One window of an image [H, W].
inline void greatest(device const float* image, device const long* rows, device const long* columns,
                     int p, int q, int P, int Q, int W, long dilation_h, long dilation_w,
                     thread float& best, thread long& index)
{
    const long top = rows[p], left = columns[q];
    const int down = int(rows[P + p]), across = int(columns[Q + q]);
    best = -INFINITY;
    index = top * W + left;
    for (int r = 0; r < down; r++) {
        const int row = (int(top) + r * int(dilation_h)) * W + int(left);
        for (int s = 0; s < across; s++) {
            const int place = row + s * int(dilation_w);
            take(image[place], place, best, index);
        }
    }
}

// x [planes, H, W]; y and, if has_indices, indices [planes, P, Q]
kernel void max_pool2d_forward_sequential(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    device long* indices [[buffer(2)]], device const long* rows [[buffer(3)]],
    device const long* columns [[buffer(4)]], constant long& planes [[buffer(5)]],
    constant long& H [[buffer(6)]], constant long& W [[buffer(7)]], constant long& P [[buffer(8)]],
    constant long& Q [[buffer(9)]], constant long& dilation_h [[buffer(10)]],
    constant long& dilation_w [[buffer(11)]], constant long& has_indices [[buffer(12)]],
    constant long& halving [[buffer(13)]], constant long& each [[buffer(14)]])
{
    for (long plane = 0; plane < planes; plane++)
        for (int p = 0; p < P; p++)
            for (int q = 0; q < Q; q++) {
                float best;
                long index;
                greatest(x + plane * H * W, rows, columns, p, q, P, Q, W, dilation_h, dilation_w, best,
                         index);
                const long o = (plane * P + p) * Q + q;
                y[o] = best;
                if (has_indices) indices[o] = index;
            }
}

// Thread `id` makes N outputs side by side.
template <int R, int N>
inline void forward_halving(device const float* x, device float* y, device long* indices, uint planes,
                            int H, int W, uint P, bool has_indices, uint id)
{
    const uint groups = W / (2 * N), line = id / groups, plane = line / P;
    if (plane >= planes) return;
    const int top = 2 * int(line % P) - (R - 2), left = 2 * N * int(id % groups);
    device const float* image = x + long(plane) * H * W;
    float values[R][2 * N + 1];  // from the column left of `left` on
    for (int r = 0; r < R; r++) {
        const bool inside = top + r >= 0 && top + r < H;
        device const float* from = image + (top + r) * W + left;
        values[r][0] = inside && R == 3 && left > 0 ? from[-1] : -INFINITY;
        for (int s = 0; s < 2 * N; s++) values[r][s + 1] = inside ? from[s] : -INFINITY;
    }
    const long o = long(line) * (W / 2) + left / 2;
    for (int k = 0; k < N; k++) {
        float best = -INFINITY;
        long index = max(top, 0) * W + max(left + 2 * k - (R - 2), 0);
        for (int r = 0; r < R; r++)
            for (int s = 0; s < R; s++) {
                const int column = 2 * k + s - (R - 2);  // from `left` on
                take(values[r][column + 1], (top + r) * W + left + column, best, index);
            }
        y[o + k] = best;
        if (has_indices) indices[o + k] = index;
    }
}

// As many threads as outputs; where halving, one for `each` of them.
kernel void max_pool2d_forward(
    device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
    device long* indices [[buffer(2)]], device const long* rows [[buffer(3)]],
    device const long* columns [[buffer(4)]], constant long& planes [[buffer(5)]],
    constant long& H [[buffer(6)]], constant long& W [[buffer(7)]], constant long& P [[buffer(8)]],
    constant long& Q [[buffer(9)]], constant long& dilation_h [[buffer(10)]],
    constant long& dilation_w [[buffer(11)]], constant long& has_indices [[buffer(12)]],
    constant long& halving [[buffer(13)]], constant long& each [[buffer(14)]],
    uint id [[thread_position_in_grid]])
{
    if (halving == 3) {
        if (each == 2) forward_halving<3, 2>(x, y, indices, planes, H, W, P, has_indices, id);
        else forward_halving<3, 1>(x, y, indices, planes, H, W, P, has_indices, id);
    } else if (halving == 2) {
        if (each == 2) forward_halving<2, 2>(x, y, indices, planes, H, W, P, has_indices, id);
        else forward_halving<2, 1>(x, y, indices, planes, H, W, P, has_indices, id);
    } else {
        const uint line = id / uint(Q), plane = line / uint(P);
        if (plane >= planes) return;
        float best;
        long index;
        greatest(x + plane * H * W, rows, columns, line % uint(P), id % uint(Q), P, Q, W, dilation_h,
                 dilation_w, best, index);
        y[id] = best;
        if (has_indices) indices[id] = index;
    }
}

// What the windows over one input of an image give it, of their [P, Q].
inline float gathered(device const float* gy, device const long* indices, device const long* rows,
                      device const long* columns, int i, int j, int H, int W, int P, int Q)
{
    const int p_end = int(rows[3 * P + H + i]), q_end = int(columns[3 * Q + W + j]);
    float sum = 0;
    for (int p = int(rows[3 * P + i]); p < p_end; p++)
        for (int q = int(columns[3 * Q + j]); q < q_end; q++)
            if (indices[p * Q + q] == i * W + j) sum += gy[p * Q + q];
    return sum;
}

// gy, indices [planes, P, Q], gx [planes, H, W]
kernel void max_pool2d_backward_sequential(
    device const float* gy [[buffer(0)]], device const long* indices [[buffer(1)]],
    device float* gx [[buffer(2)]], device const long* rows [[buffer(3)]],
    device const long* columns [[buffer(4)]], constant long& planes [[buffer(5)]],
    constant long& H [[buffer(6)]], constant long& W [[buffer(7)]], constant long& P [[buffer(8)]],
    constant long& Q [[buffer(9)]], constant long& halving [[buffer(10)]],
    constant long& each [[buffer(11)]])
{
    for (long plane = 0; plane < planes; plane++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++)
                gx[(plane * H + i) * W + j] = gathered(gy + plane * P * Q, indices + plane * P * Q, rows,
                                                       columns, i, j, H, W, P, Q);
}

// Thread `id` makes 2 rows of 2 N inputs.
template <int R, int N>
inline void backward_halving(device const float* gy, device const long* indices, device float* gx,
                             uint planes, int H, int W, int P, uint id)
{
    const int Q = W / 2, over = R - 2;  // how many windows more reach over from below and from the right
    const uint groups = Q / N, line = id / groups, pairs = (H + 1) / 2, plane = line / pairs;
    if (plane >= planes) return;
    const int p = line % pairs, q = N * int(id % groups);
    float sums[2][2 * N] = {};
    for (int down = 0; down <= over; down++) {
        if (p + down >= P) continue;
        const long o = (long(plane) * P + p + down) * Q + q;
        for (int k = 0; k < N + over; k++) {
            if (q + k >= Q) continue;
            const float above = gy[o + k];
            const long index = indices[o + k];
            for (int i = down; i < 2; i++)
                for (int j = max(2 * k - over, 0); j < min(2 * k + 2, 2 * N); j++)
                    if (index == (2 * p + i) * W + 2 * q + j) sums[i][j] += above;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (2 * p + i >= H) continue;
        device float* to = gx + (long(plane) * H + 2 * p + i) * W + 2 * q;
        for (int j = 0; j < 2 * N; j++) to[j] = sums[i][j];
    }
}

// As many threads as inputs; where halving, one for 2 rows of 2 `each` of them.
kernel void max_pool2d_backward(
    device const float* gy [[buffer(0)]], device const long* indices [[buffer(1)]],
    device float* gx [[buffer(2)]], device const long* rows [[buffer(3)]],
    device const long* columns [[buffer(4)]], constant long& planes [[buffer(5)]],
    constant long& H [[buffer(6)]], constant long& W [[buffer(7)]], constant long& P [[buffer(8)]],
    constant long& Q [[buffer(9)]], constant long& halving [[buffer(10)]],
    constant long& each [[buffer(11)]], uint id [[thread_position_in_grid]])
{
    if (halving == 3) {
        if (each == 2) backward_halving<3, 2>(gy, indices, gx, planes, H, W, P, id);
        else backward_halving<3, 1>(gy, indices, gx, planes, H, W, P, id);
    } else if (halving == 2) {
        if (each == 2) backward_halving<2, 2>(gy, indices, gx, planes, H, W, P, id);
        else backward_halving<2, 1>(gy, indices, gx, planes, H, W, P, id);
    } else {
        const uint line = id / uint(W), plane = line / uint(H);
        if (plane >= planes) return;
        const long image = plane * P * Q;
        gx[id] = gathered(gy + image, indices + image, rows, columns, line % uint(H), id % uint(W), H, W,
                          P, Q);
    }
}
