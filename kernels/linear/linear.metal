// linear: y = x w^T + b, gx = gy w, gw = gy^T x, gb = the sums of gy's columns. Three matrix products
// y [m, n] = a [m, k] times b [k, n], which differ in which way a and b lie in memory.
//
//   _sequential   one thread, three nested loops, two loads for each product
//   _128 _64 _32  a threadgroup has a square of y of that side and passes over k in steps: the next
//                 step's numbers are on their way from memory (4 of a and 4 of b a thread,
//                 neighbours to neighbours), while the products of this one are made from
//                 threadgroup memory, in two buffers by turns. A thread has 8 x 8, 8 x 4 or 4 x 4
//                 sums in registers, so that a number from threadgroup memory serves 8 or 4
//                 products. Smaller squares make more threadgroups of a small y; that theirs have as
//                 many threads, 2 or 4 share a sum, and their parts are added in threadgroup memory
//                 in the end. 16.5, 17 and 18 KiB of it
//   parts of k    threadgroups side by side have a part of the sums each, where there are too few
//                 squares for a large GPU; sum_parts adds them, in one order
//   few_rows      up to 8 rows of a, and b along k: a simdgroup has two columns of y and reads them
//                 of b once; bound by memory, which is b's 4 n k bytes
//   column_sums   32 columns a threadgroup, so that a simdgroup reads 128 bytes of a row; sums of 8
//                 threads added in a tree
#include <metal_stdlib>
using namespace metal;

constexpr constant int THREADS = 256;

// One of the two matrices, `rows` by k, of which a threadgroup wants SIDE rows, STEP numbers at a time.
template <int SIDE, int STEP>
struct Operand {
    enum { ROW = SIDE + 4, EACH = SIDE * STEP / THREADS };
    device const float* p;
    int rows, k, first, thread_index;
    bool along_k;
    float next[EACH];

    int row(int i) const { return along_k ? i / STEP : i % SIDE; }
    int depth(int i) const { return along_k ? i % STEP : i / SIDE; }

    void load(int at, int end)
    {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int i = thread_index + e * THREADS, r = first + row(i), d = at + depth(i);
            next[e] = r < rows && d < end ? p[along_k ? r * k + d : d * rows + r] : 0.0f;
        }
    }

    // to threadgroup memory, [STEP][ROW]
    template <class Room>
    void store(Room to) const
    {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int i = thread_index + e * THREADS;
            to[depth(i) * ROW + row(i)] = next[e];
        }
    }
};

// The threadgroup's square of y, of the part group.y of k. `room`: two buffers of both matrices.
template <int SIDE, int STEP, int DOWN, int ACROSS, int SLICES, class Room>
inline void product(Room room, device const float* a, device const float* b, device const float* bias,
                    device float* y, int m, int n, int k, bool a_along_k, bool b_along_k, bool has_bias,
                    int part, uint3 group, int t)
{
    constexpr int TEAM = THREADS / SLICES, ROW = SIDE + 4, BUFFER = 2 * STEP * ROW;
    constexpr int WAVES = SIDE / ACROSS / 8;  // side by side, of 4 x 8 threads
    const int team = t % TEAM, slice = t / TEAM, lane = team % 32, wave = team / 32;
    const int down = (wave / WAVES * 4 + lane / 8) * 4;
    const int across = (wave % WAVES * 8 + lane % 8) * 4;
    const int squares = (m + SIDE - 1) / SIDE;
    const int top = int(group.x) % squares * SIDE, left = int(group.x) / squares * SIDE;
    const int begin = int(group.y) * part, end = min(k, begin + part);

    float sum[DOWN][ACROSS] = {};
    Operand<SIDE, STEP> of_a = {a, m, k, top, t, a_along_k, {}}, of_b = {b, n, k, left, t, b_along_k, {}};
    of_a.load(begin, end);
    of_b.load(begin, end);
    of_a.store(room);
    of_b.store(room + STEP * ROW);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int at = begin, now = 0; at < end; at += STEP, now ^= 1) {
        const bool more = at + STEP < end;
        if (more) {
            of_a.load(at + STEP, end);
            of_b.load(at + STEP, end);
        }
        const int from = now * BUFFER + slice * ROW;
#pragma unroll
        for (int d = 0; d < STEP; d += SLICES) {
            float u[DOWN], v[ACROSS];
#pragma unroll
            for (int i = 0; i < DOWN; i++)
                u[i] = room[from + d * ROW + i / 4 * (4 * SIDE / DOWN) + down + i % 4];
#pragma unroll
            for (int j = 0; j < ACROSS; j++)
                v[j] = room[from + (STEP + d) * ROW + j / 4 * (4 * SIDE / ACROSS) + across + j % 4];
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int j = 0; j < ACROSS; j++) sum[i][j] += u[i] * v[j];
        }
        if (more) {
            of_a.store(room + (now ^ 1) * BUFFER);
            of_b.store(room + (now ^ 1) * BUFFER + STEP * ROW);
            threadgroup_barrier(mem_flags::mem_threadgroup);
        }
    }

#pragma unroll
    for (int near = SLICES / 2; near; near /= 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int mine = slice % near * (DOWN * ACROSS * TEAM) + team;
        if (slice >= near && slice < 2 * near)
            for (int i = 0; i < DOWN * ACROSS; i++) room[mine + i * TEAM] = sum[i / ACROSS][i % ACROSS];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (slice < near)
            for (int i = 0; i < DOWN * ACROSS; i++) sum[i / ACROSS][i % ACROSS] += room[mine + i * TEAM];
    }

    y += group.y * long(m) * n;
#pragma unroll
    for (int i = 0; i < DOWN; i++) {
        const int r = top + i / 4 * (4 * SIDE / DOWN) + down + i % 4;
        if (slice || r >= m) continue;
#pragma unroll
        for (int j = 0; j < ACROSS; j++) {
            const int c = left + j / 4 * (4 * SIDE / ACROSS) + across + j % 4;
            if (c < n) y[r * n + c] = sum[i][j] + (has_bias ? bias[c] : 0.0f);
        }
    }
}

// a [m, k] or, not a_along_k, [k, m]; b [n, k] or [k, n]; bias [n]; y [parts, m, n], a part of k each.
kernel void linear_product_sequential(
    device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* y [[buffer(3)]], constant long& m [[buffer(4)]],
    constant long& n [[buffer(5)]], constant long& k [[buffer(6)]], constant long& a_along_k [[buffer(7)]],
    constant long& b_along_k [[buffer(8)]], constant long& has_bias [[buffer(9)]],
    constant long& part [[buffer(10)]])
{
    for (long i = 0; i < m; i++)
        for (long j = 0; j < n; j++) {
            float sum = has_bias ? bias[j] : 0.0f;
            for (long l = 0; l < k; l++)
                sum += a[a_along_k ? i * k + l : l * m + i] * b[b_along_k ? j * k + l : l * n + j];
            y[i * n + j] = sum;
        }
}

// Threadgroups (squares of y, parts of k).
[[max_total_threads_per_threadgroup(256)]]
kernel void linear_product_128(
    device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* y [[buffer(3)]], constant long& m [[buffer(4)]],
    constant long& n [[buffer(5)]], constant long& k [[buffer(6)]], constant long& a_along_k [[buffer(7)]],
    constant long& b_along_k [[buffer(8)]], constant long& has_bias [[buffer(9)]],
    constant long& part [[buffer(10)]], uint3 group [[threadgroup_position_in_grid]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[4 * 8 * 132];
    product<128, 8, 8, 8, 1>(&room[0], a, b, bias, y, m, n, k, a_along_k, b_along_k, has_bias, part, group, t);
}

[[max_total_threads_per_threadgroup(256)]]
kernel void linear_product_64(
    device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* y [[buffer(3)]], constant long& m [[buffer(4)]],
    constant long& n [[buffer(5)]], constant long& k [[buffer(6)]], constant long& a_along_k [[buffer(7)]],
    constant long& b_along_k [[buffer(8)]], constant long& has_bias [[buffer(9)]],
    constant long& part [[buffer(10)]], uint3 group [[threadgroup_position_in_grid]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[4 * 16 * 68];
    product<64, 16, 8, 4, 2>(&room[0], a, b, bias, y, m, n, k, a_along_k, b_along_k, has_bias, part, group, t);
}

[[max_total_threads_per_threadgroup(256)]]
kernel void linear_product_32(
    device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* y [[buffer(3)]], constant long& m [[buffer(4)]],
    constant long& n [[buffer(5)]], constant long& k [[buffer(6)]], constant long& a_along_k [[buffer(7)]],
    constant long& b_along_k [[buffer(8)]], constant long& has_bias [[buffer(9)]],
    constant long& part [[buffer(10)]], uint3 group [[threadgroup_position_in_grid]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[4 * 32 * 36];
    product<32, 32, 4, 4, 4>(&room[0], a, b, bias, y, m, n, k, a_along_k, b_along_k, has_bias, part, group, t);
}

// y [m, n] = bias + the sum of parts [count, m, n]; a thread a number.
kernel void linear_sum_parts(
    device const float* parts [[buffer(0)]], device const float* bias [[buffer(1)]],
    device float* y [[buffer(2)]], constant long& count [[buffer(3)]], constant long& m [[buffer(4)]],
    constant long& n [[buffer(5)]], constant long& has_bias [[buffer(6)]], uint i [[thread_position_in_grid]])
{
    if (i >= m * n) return;
    float sum = has_bias ? bias[i % n] : 0.0f;
    for (long p = 0; p < count; p++) sum += parts[p * m * n + i];
    y[i] = sum;
}

template <int ROWS>
inline void rows_of_y(device const float* a, device const float* b, device const float* bias,
                      device float* y, int m, int n, int k, bool has_bias, int t)
{
    const int lane = t % 32, first = t / 32 * 2;
    const int second = min(first + 1, n - 1), at[2] = {min(first, n - 1) * k, second * k};
    float sum[ROWS][2] = {};
    for (int d = lane; d < k; d += 32) {
        const float v = b[at[0] + d], w = b[at[1] + d];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float u = a[min(r, m - 1) * k + d];
            sum[r][0] += u * v;
            sum[r][1] += u * w;
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const float all = simd_sum(sum[r][c]);
            if (lane == 0 && r < m && first + c < n)
                y[r * n + first + c] = all + (has_bias ? bias[first + c] : 0.0f);
        }
}

// a [m, k] for m up to 8, b [n, k], bias [n], y [m, n]. A simdgroup for two columns.
kernel void linear_few_rows(
    device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
    device const float* bias [[buffer(2)]], device float* y [[buffer(3)]], constant long& m [[buffer(4)]],
    constant long& n [[buffer(5)]], constant long& k [[buffer(6)]], constant long& has_bias [[buffer(7)]],
    uint t [[thread_position_in_grid]])
{
    if (m == 1) rows_of_y<1>(a, b, bias, y, m, n, k, has_bias, t);
    else if (m <= 4) rows_of_y<4>(a, b, bias, y, m, n, k, has_bias, t);
    else rows_of_y<8>(a, b, bias, y, m, n, k, has_bias, t);
}

// from [rows, columns] -> to [parts, columns], of `part` rows each.
kernel void linear_column_sums_sequential(
    device const float* from [[buffer(0)]], device float* to [[buffer(1)]],
    constant long& rows [[buffer(2)]], constant long& columns [[buffer(3)]], constant long& part [[buffer(4)]])
{
    for (long c = 0; c < columns; c++) {
        float sum = 0.0f;
        for (long r = 0; r < rows; r++) sum += from[r * columns + c];
        to[c] = sum;
    }
}

// Threadgroups (32 columns, part) of 8 simdgroups, a simdgroup every eighth row.
kernel void linear_column_sums(
    device const float* from [[buffer(0)]], device float* to [[buffer(1)]],
    constant long& rows [[buffer(2)]], constant long& columns [[buffer(3)]],
    constant long& part [[buffer(4)]], uint3 group [[threadgroup_position_in_grid]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[THREADS];
    const int column = group.x * 32 + t % 32, begin = group.y * part;
    const int end = min(int(rows), begin + int(part));
    float sum = 0.0f;
    if (column < columns)
        for (int r = begin + t / 32; r < end; r += 8) sum += from[r * columns + column];
    room[t] = sum;
    for (uint near = THREADS / 2; near >= 32; near /= 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t < near) room[t] += room[t + near];
    }
    if (t < 32 && column < columns) to[group.y * columns + column] = room[t];
}
