// max_pool2d and its gradient. Bound by memory: 4 bytes an input and 4 an output, 8 more where the
// indices are wanted; the gradient reads 12 bytes an output and writes 4 an input.
//
//   _sequential   one thread passes over everything, window by window
//   (plain)       forward a thread makes one output, backward one input: it gathers from all windows
//                 that may have taken it, so that no two threads write to one place and every run
//                 adds in the same order
//   halving       the windows of most networks: 2 x 2, or 3 x 3 padded by 1, two apart, over an even
//                 width. There a thread makes `each` outputs side by side, 1 or 2, of one float2 or
//                 float4 a row (and one number left of it), and backward the 2 rows of 2 `each` inputs
//                 above them: a third as many loads, and no loop with a length to look up
//
// The greatest is the first one, and NaN is greater than all: the last NaN counts, as in torch. A
// window that dilation has left empty is -inf, its index where its first number would be.
//
// `rows` [3 P + 2 H] tells for each window its first row and how many are inside (and a share, which
// means here nothing), and for each row of the input the first window over it and the end of them;
// `columns` [3 Q + 2 W] the same.

// v is taken: where it is greater, and wherever it is NaN.
__device__ inline void take(float v, int place, float& best, long long& index)
{
    if (v > best || v != v) {
        best = v;
        index = place;
    }
}

__device__ inline float lowest() { return __int_as_float(0xff800000); }  // -inf

// One window of an image [H, W].
__device__ inline void greatest(const float* image, const long long* rows, const long long* columns,
                                int p, int q, int P, int Q, int W, long long dilation_h,
                                long long dilation_w, float& best, long long& index)
{
    const long long top = rows[p], left = columns[q];
    const int down = (int)rows[P + p], across = (int)columns[Q + q];
    best = lowest();
    index = top * W + left;
    for (int r = 0; r < down; r++) {
        const int row = ((int)top + r * (int)dilation_h) * W + (int)left;
        for (int s = 0; s < across; s++) {
            const int place = row + s * (int)dilation_w;
            take(image[place], place, best, index);
        }
    }
}

// x [planes, H, W]; y and, if has_indices, indices [planes, P, Q]
extern "C" __global__ void max_pool2d_forward_sequential(
    const float* x, float* y, long long* indices, const long long* rows, const long long* columns,
    long long planes, long long H, long long W, long long P, long long Q, long long dilation_h,
    long long dilation_w, long long has_indices, long long halving, long long each)
{
    for (long long plane = 0; plane < planes; plane++)
        for (int p = 0; p < P; p++)
            for (int q = 0; q < Q; q++) {
                float best;
                long long index;
                greatest(x + plane * H * W, rows, columns, p, q, P, Q, W, dilation_h, dilation_w, best,
                         index);
                const long long o = (plane * P + p) * Q + q;
                y[o] = best;
                if (has_indices) indices[o] = index;
            }
}

// 2 * N floats on N * 8 bytes.
template <int N>
__device__ inline void load_pairs(const float* from, float* to)
{
    if constexpr (N == 2) {
        const float4 v = *(const float4*)from;
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else {
        const float2 v = *(const float2*)from;
        to[0] = v.x, to[1] = v.y;
    }
}

// Thread `id` makes N outputs side by side.
template <int R, int N>
__device__ inline void forward_halving(const float* __restrict__ x, float* __restrict__ y,
                                       long long* __restrict__ indices, unsigned planes, int H, int W,
                                       unsigned P, bool has_indices, unsigned id)
{
    const unsigned groups = W / (2 * N), line = id / groups, plane = line / P;
    if (plane >= planes) return;
    const int top = 2 * (int)(line % P) - (R - 2), left = 2 * N * (id % groups);
    const float* image = x + (size_t)plane * H * W;
    float values[R][2 * N + 1];  // from the column left of `left` on
#pragma unroll
    for (int r = 0; r < R; r++) {
        const float* from = image + (top + r) * W + left;
        if (top + r >= 0 && top + r < H) {
            values[r][0] = R == 3 && left > 0 ? from[-1] : lowest();
            load_pairs<N>(from, values[r] + 1);
        } else {
#pragma unroll
            for (int s = 0; s < 2 * N + 1; s++) values[r][s] = lowest();
        }
    }
    float best[N];
    long long index[N];
#pragma unroll
    for (int k = 0; k < N; k++) {
        best[k] = lowest();
        index[k] = max(top, 0) * W + max(left + 2 * k - (R - 2), 0);
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int s = 0; s < R; s++) {
                const int column = 2 * k + s - (R - 2);  // from `left` on
                take(values[r][column + 1], (top + r) * W + left + column, best[k], index[k]);
            }
    }
    const size_t o = (size_t)line * (W / 2) + left / 2;
    if constexpr (N == 2) {
        *(float2*)(y + o) = make_float2(best[0], best[1]);
        if (has_indices) *(longlong2*)(indices + o) = make_longlong2(index[0], index[1]);
    } else {
        y[o] = best[0];
        if (has_indices) indices[o] = index[0];
    }
}

// As many threads as outputs; where halving, one for `each` of them.
extern "C" __global__ void max_pool2d_forward(
    const float* __restrict__ x, float* __restrict__ y, long long* __restrict__ indices,
    const long long* __restrict__ rows, const long long* __restrict__ columns, long long planes,
    long long H, long long W, long long P, long long Q, long long dilation_h, long long dilation_w,
    long long has_indices, long long halving, long long each)
{
    const unsigned id = blockIdx.x * blockDim.x + threadIdx.x;
    if (halving == 3) {
        if (each == 2) forward_halving<3, 2>(x, y, indices, planes, H, W, P, has_indices, id);
        else forward_halving<3, 1>(x, y, indices, planes, H, W, P, has_indices, id);
    } else if (halving == 2) {
        if (each == 2) forward_halving<2, 2>(x, y, indices, planes, H, W, P, has_indices, id);
        else forward_halving<2, 1>(x, y, indices, planes, H, W, P, has_indices, id);
    } else {
        const unsigned line = id / (unsigned)Q, plane = line / (unsigned)P;
        if (plane >= planes) return;
        float best;
        long long index;
        greatest(x + (size_t)plane * H * W, rows, columns, line % (unsigned)P, id % (unsigned)Q, P, Q, W,
                 dilation_h, dilation_w, best, index);
        y[id] = best;
        if (has_indices) indices[id] = index;
    }
}

// What the windows over one input of an image give it, of their [P, Q].
__device__ inline float gathered(const float* gy, const long long* indices, const long long* rows,
                                 const long long* columns, int i, int j, int H, int W, int P, int Q)
{
    const int p_end = (int)rows[3 * P + H + i], q_end = (int)columns[3 * Q + W + j];
    float sum = 0;
    for (int p = (int)rows[3 * P + i]; p < p_end; p++)
        for (int q = (int)columns[3 * Q + j]; q < q_end; q++)
            if (indices[p * Q + q] == i * W + j) sum += gy[p * Q + q];
    return sum;
}

// gy, indices [planes, P, Q], gx [planes, H, W]
extern "C" __global__ void max_pool2d_backward_sequential(
    const float* gy, const long long* indices, float* gx, const long long* rows,
    const long long* columns, long long planes, long long H, long long W, long long P, long long Q,
    long long halving, long long each)
{
    for (long long plane = 0; plane < planes; plane++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++)
                gx[(plane * H + i) * W + j] = gathered(gy + plane * P * Q, indices + plane * P * Q, rows,
                                                       columns, i, j, H, W, P, Q);
}

// Thread `id` makes 2 rows of 2 N inputs.
template <int R, int N>
__device__ inline void backward_halving(const float* __restrict__ gy,
                                        const long long* __restrict__ indices, float* __restrict__ gx,
                                        unsigned planes, int H, int W, int P, unsigned id)
{
    const int Q = W / 2, over = R - 2;  // how many windows more reach over from below and from the right
    const unsigned groups = Q / N, line = id / groups, pairs = (H + 1) / 2, plane = line / pairs;
    if (plane >= planes) return;
    const int p = line % pairs, q = N * (id % groups);
    float sums[2][2 * N] = {};
#pragma unroll
    for (int down = 0; down <= over; down++) {
        if (p + down >= P) continue;
        const size_t o = ((size_t)plane * P + p + down) * Q + q;
        float above[N + 1] = {};
        long long index[N + 1];
        if constexpr (N == 2) {
            const float2 v = *(const float2*)(gy + o);
            const longlong2 w = *(const longlong2*)(indices + o);
            above[0] = v.x, above[1] = v.y;
            index[0] = w.x, index[1] = w.y;
        } else {
            above[0] = gy[o];
            index[0] = indices[o];
        }
        index[N] = -1;
        if (over && q + N < Q) {
            above[N] = gy[o + N];
            index[N] = indices[o + N];
        }
#pragma unroll
        for (int k = 0; k < N + over; k++)
#pragma unroll
            for (int i = down; i < 2; i++)
#pragma unroll
                for (int j = max(2 * k - over, 0); j < min(2 * k + 2, 2 * N); j++)
                    if (index[k] == (2 * p + i) * W + 2 * q + j) sums[i][j] += above[k];
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (2 * p + i >= H) continue;
        float* to = gx + ((size_t)plane * H + 2 * p + i) * W + 2 * q;
        if constexpr (N == 2) *(float4*)to = make_float4(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
        else *(float2*)to = make_float2(sums[i][0], sums[i][1]);
    }
}

// As many threads as inputs; where halving, one for 2 rows of 2 `each` of them.
extern "C" __global__ void max_pool2d_backward(
    const float* __restrict__ gy, const long long* __restrict__ indices, float* __restrict__ gx,
    const long long* __restrict__ rows, const long long* __restrict__ columns, long long planes,
    long long H, long long W, long long P, long long Q, long long halving, long long each)
{
    const unsigned id = blockIdx.x * blockDim.x + threadIdx.x;
    if (halving == 3) {
        if (each == 2) backward_halving<3, 2>(gy, indices, gx, planes, H, W, P, id);
        else backward_halving<3, 1>(gy, indices, gx, planes, H, W, P, id);
    } else if (halving == 2) {
        if (each == 2) backward_halving<2, 2>(gy, indices, gx, planes, H, W, P, id);
        else backward_halving<2, 1>(gy, indices, gx, planes, H, W, P, id);
    } else {
        const unsigned line = id / (unsigned)W, plane = line / (unsigned)H;
        if (plane >= planes) return;
        const size_t image = (size_t)plane * P * Q;
        gx[id] = gathered(gy + image, indices + image, rows, columns, line % (unsigned)H,
                          id % (unsigned)W, H, W, P, Q);
    }
}
