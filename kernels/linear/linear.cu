// linear: y = x w^T + b, gx = gy w, gw = gy^T x, gb = the sums of gy's columns. Three matrix products
// y [m, n] = a [m, k] times b [k, n], which differ in which way a and b lie in memory.
//
//   _sequential   one thread, three nested loops, two loads for each product
//   _128 _64 _32  a block has a square of y of that side and passes over k in steps: the next step's
//                 numbers are on their way from memory (a float4 of a and of b a thread), while the
//                 products of this one are made from shared memory, in two buffers by turns. A
//                 thread has 8 x 8, 8 x 4 or 4 x 4 sums in registers, so that a number from shared
//                 memory serves 8 or 4 products. Smaller squares make more blocks of a small y; that
//                 theirs have as many threads, 2 or 4 share a sum, and their parts are added in
//                 shared memory in the end. 16.5, 17 and 18 KiB of shared memory; global memory is
//                 read m/side times and n/side times, which the L2 cache serves.
//   parts of k    blocks side by side have a part of the sums each, where there are too few squares
//                 for a large GPU; sum_parts adds them, in one order
//   few_rows      up to 8 rows of a, and b along k: a warp has two columns of y and reads them of b
//                 once, 512 bytes an instruction; bound by memory, which is b's 4 n k bytes
//   column_sums   32 columns a block, so that a warp reads 128 bytes of a row; sums of 8 threads
//                 added in a tree
//
// Memory that does not lie on 16 bytes, or whose rows do not, is read number by number.

constexpr int THREADS = 256;

__device__ inline bool on_16_bytes(const void* p) { return (unsigned long long)p % 16 == 0; }

// Four neighbours of a matrix whose lines have `stride` numbers; zeros behind `lines` and `end`.
__device__ inline float4 fetch(const float* p, int line, int at, int lines, int end, int stride, bool vector)
{
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (line >= lines || at >= end) return v;
    p += line * stride + at;
    if (vector) return *(const float4*)p;
    v.x = p[0];
    if (at + 1 < end) v.y = p[1];
    if (at + 2 < end) v.z = p[2];
    if (at + 3 < end) v.w = p[3];
    return v;
}

// One of the two matrices, `rows` by k, of which a block wants SIDE rows, STEP numbers at a time.
template <int SIDE, int STEP>
struct Operand {
    static constexpr int ROW = SIDE + 4;  // turned numbers go to different banks
    static constexpr int EACH = SIDE * STEP / 4 / THREADS;
    const float* p;
    int rows, k, first;
    bool along_k, vector;
    float4 next[EACH];

    __device__ Operand(const float* p, int rows, int k, int first, bool along_k)
        : p(p), rows(rows), k(k), first(first), along_k(along_k),
          vector(on_16_bytes(p) && (along_k ? k : rows) % 4 == 0) {}

    // Along k, two threads take 32 bytes of a row, the least that memory gives.
    __device__ int row(int i) const { return along_k ? i / 2 % SIDE : i % (SIDE / 4) * 4; }
    __device__ int depth(int i) const { return along_k ? i / (2 * SIDE) * 8 + i % 2 * 4 : i / (SIDE / 4); }

    __device__ void load(int at, int end)
    {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int i = threadIdx.x + e * THREADS, r = first + row(i), d = at + depth(i);
            next[e] = along_k ? fetch(p, r, d, rows, end, k, vector) : fetch(p, d, r, end, rows, rows, vector);
        }
    }

    // to [STEP][ROW]
    __device__ void store(float* to) const
    {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int i = threadIdx.x + e * THREADS;
            float* at = to + depth(i) * ROW + row(i);
            if (along_k) {
                at[0] = next[e].x, at[ROW] = next[e].y, at[2 * ROW] = next[e].z, at[3 * ROW] = next[e].w;
            } else {
                *(float4*)at = next[e];
            }
        }
    }
};

// COUNT numbers in fours, the fours as far apart as they are shared out evenly over SIDE.
template <int SIDE, int COUNT>
__device__ inline void read(const float* from, float (&to)[COUNT])
{
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
        const float4 v = *(const float4*)(from + i * (SIDE / COUNT));
        to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
}

// The block's square of y, of the part blockIdx.y of k. `room`: two buffers of both matrices.
template <int SIDE, int STEP, int DOWN, int ACROSS, int SLICES>
__device__ __forceinline__ void product(float* room, const float* a, const float* b, const float* bias,
                                        float* y, int m, int n, int k, bool a_along_k, bool b_along_k,
                                        bool has_bias, int part)
{
    constexpr int TEAM = THREADS / SLICES, ROW = SIDE + 4, BUFFER = 2 * STEP * ROW;
    constexpr int WARPS = SIDE / ACROSS / 8;  // side by side, of 4 x 8 threads
    const int team = threadIdx.x % TEAM, slice = threadIdx.x / TEAM, lane = team % 32, warp = team / 32;
    const int down = (warp / WARPS * 4 + lane / 8) * 4, across = (warp % WARPS * 8 + lane % 8) * 4;
    const int squares = (m + SIDE - 1) / SIDE;
    const int top = blockIdx.x % squares * SIDE, left = blockIdx.x / squares * SIDE;
    const int begin = blockIdx.y * part, end = min(k, begin + part);

    float sum[DOWN][ACROSS] = {};
    Operand<SIDE, STEP> of_a(a, m, k, top, a_along_k), of_b(b, n, k, left, b_along_k);
    of_a.load(begin, end), of_b.load(begin, end);
    of_a.store(room), of_b.store(room + STEP * ROW);
    __syncthreads();
    for (int at = begin, now = 0; at < end; at += STEP, now ^= 1) {
        const bool more = at + STEP < end;
        if (more) of_a.load(at + STEP, end), of_b.load(at + STEP, end);
        const float* from = room + now * BUFFER + slice * ROW;
#pragma unroll
        for (int d = 0; d < STEP; d += SLICES) {
            float u[DOWN], v[ACROSS];
            read<SIDE>(from + d * ROW + down, u);
            read<SIDE>(from + (STEP + d) * ROW + across, v);
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int j = 0; j < ACROSS; j++) sum[i][j] += u[i] * v[j];
        }
        if (more) {
            of_a.store(room + (now ^ 1) * BUFFER), of_b.store(room + (now ^ 1) * BUFFER + STEP * ROW);
            __syncthreads();
        }
    }

#pragma unroll
    for (int near = SLICES / 2; near; near /= 2) {
        __syncthreads();
        float* mine = room + (slice % near) * (DOWN * ACROSS * TEAM) + team;
        if (slice >= near && slice < 2 * near)
            for (int i = 0; i < DOWN * ACROSS; i++) mine[i * TEAM] = sum[i / ACROSS][i % ACROSS];
        __syncthreads();
        if (slice < near)
            for (int i = 0; i < DOWN * ACROSS; i++) sum[i / ACROSS][i % ACROSS] += mine[i * TEAM];
    }

    y += blockIdx.y * (long long)m * n;
    const bool vector = on_16_bytes(y) && n % 4 == 0;
#pragma unroll
    for (int i = 0; i < DOWN; i++) {
        const int r = top + i / 4 * (4 * SIDE / DOWN) + down + i % 4;
        if (slice || r >= m) continue;
#pragma unroll
        for (int j = 0; j < ACROSS; j += 4) {
            const int c = left + j * (SIDE / ACROSS) + across;
            float* s = sum[i] + j;
            float* to = y + r * n + c;
            if (has_bias)
                for (int l = 0; l < 4 && c + l < n; l++) s[l] += bias[c + l];
            if (vector && c < n)
                *(float4*)to = make_float4(s[0], s[1], s[2], s[3]);
            else
                for (int l = 0; l < 4 && c + l < n; l++) to[l] = s[l];
        }
    }
}

// a [m, k] or, not a_along_k, [k, m]; b [n, k] or [k, n]; bias [n]; y [parts, m, n], a part of k each.
extern "C" __global__ void linear_product_sequential(const float* a, const float* b, const float* bias,
                                                     float* y, long long m, long long n, long long k,
                                                     long long a_along_k, long long b_along_k,
                                                     long long has_bias, long long part)
{
    for (long long i = 0; i < m; i++)
        for (long long j = 0; j < n; j++) {
            float sum = has_bias ? bias[j] : 0.0f;
            for (long long l = 0; l < k; l++)
                sum += a[a_along_k ? i * k + l : l * m + i] * b[b_along_k ? j * k + l : l * n + j];
            y[i * n + j] = sum;
        }
}

// Blocks (squares of y, parts of k).
extern "C" __global__ void __launch_bounds__(256, 2)
linear_product_128(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias,
                   float* __restrict__ y, long long m, long long n, long long k, long long a_along_k,
                   long long b_along_k, long long has_bias, long long part)
{
    __shared__ float4 room[8 * 132];
    product<128, 8, 8, 8, 1>((float*)room, a, b, bias, y, m, n, k, a_along_k, b_along_k, has_bias, part);
}

extern "C" __global__ void __launch_bounds__(256, 2)
linear_product_64(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias,
                  float* __restrict__ y, long long m, long long n, long long k, long long a_along_k,
                  long long b_along_k, long long has_bias, long long part)
{
    __shared__ float4 room[16 * 68];
    product<64, 16, 8, 4, 2>((float*)room, a, b, bias, y, m, n, k, a_along_k, b_along_k, has_bias, part);
}

extern "C" __global__ void __launch_bounds__(256, 2)
linear_product_32(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias,
                  float* __restrict__ y, long long m, long long n, long long k, long long a_along_k,
                  long long b_along_k, long long has_bias, long long part)
{
    __shared__ float4 room[32 * 36];
    product<32, 32, 4, 4, 4>((float*)room, a, b, bias, y, m, n, k, a_along_k, b_along_k, has_bias, part);
}

// y [m, n] = bias + the sum of parts [count, m, n]; a thread a number.
extern "C" __global__ void linear_sum_parts(const float* __restrict__ parts, const float* __restrict__ bias,
                                            float* __restrict__ y, long long count, long long m,
                                            long long n, long long has_bias)
{
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= m * n) return;
    float sum = has_bias ? bias[i % n] : 0.0f;
    for (long long p = 0; p < count; p++) sum += parts[p * m * n + i];
    y[i] = sum;
}

template <int ROWS>
__device__ void rows_of_y(const float* a, const float* b, const float* bias, float* y, int m, int n, int k,
                          bool has_bias)
{
    const int lane = threadIdx.x % 32, first = (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 2;
    const int columns[2] = {min(first, n - 1), min(first + 1, n - 1)};
    float sum[ROWS][2] = {};
    if (on_16_bytes(a) && on_16_bytes(b) && k % 4 == 0) {
#pragma unroll 4
        for (int d = 4 * lane; d < k; d += 128) {
            const float4 v = *(const float4*)(b + columns[0] * k + d);
            const float4 w = *(const float4*)(b + columns[1] * k + d);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const float4 u = *(const float4*)(a + min(r, m - 1) * k + d);
                sum[r][0] += u.x * v.x + u.y * v.y + u.z * v.z + u.w * v.w;
                sum[r][1] += u.x * w.x + u.y * w.y + u.z * w.z + u.w * w.w;
            }
        }
    } else {
        for (int d = lane; d < k; d += 32)
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                for (int c = 0; c < 2; c++) sum[r][c] += a[min(r, m - 1) * k + d] * b[columns[c] * k + d];
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
            for (int step = 16; step; step /= 2) sum[r][c] += __shfl_xor_sync(0xffffffffu, sum[r][c], step);
            if (lane == 0 && r < m && first + c < n)
                y[r * n + first + c] = sum[r][c] + (has_bias ? bias[first + c] : 0.0f);
        }
}

// a [m, k] for m up to 8, b [n, k], bias [n], y [m, n]. A warp for two columns.
extern "C" __global__ void linear_few_rows(const float* __restrict__ a, const float* __restrict__ b,
                                           const float* __restrict__ bias, float* __restrict__ y,
                                           long long m, long long n, long long k, long long has_bias)
{
    if (m == 1) rows_of_y<1>(a, b, bias, y, m, n, k, has_bias);
    else if (m <= 4) rows_of_y<4>(a, b, bias, y, m, n, k, has_bias);
    else rows_of_y<8>(a, b, bias, y, m, n, k, has_bias);
}

// from [rows, columns] -> to [parts, columns], of `part` rows each.
extern "C" __global__ void linear_column_sums_sequential(const float* from, float* to, long long rows,
                                                         long long columns, long long part)
{
    for (long long c = 0; c < columns; c++) {
        float sum = 0.0f;
        for (long long r = 0; r < rows; r++) sum += from[r * columns + c];
        to[c] = sum;
    }
}

// Blocks (32 columns, part) of 8 warps, a warp every eighth row.
extern "C" __global__ void linear_column_sums(const float* __restrict__ from, float* __restrict__ to,
                                              long long rows, long long columns, long long part)
{
    __shared__ float room[THREADS];
    const int t = threadIdx.x, column = blockIdx.x * 32 + t % 32;
    const int begin = blockIdx.y * part, end = min((int)rows, begin + (int)part);
    float sum = 0.0f;
    if (column < columns)
        for (int r = begin + t / 32; r < end; r += 8) sum += from[r * (int)columns + column];
    room[t] = sum;
    for (int near = THREADS / 2; near >= 32; near /= 2) {
        __syncthreads();
        if (t < near) room[t] += room[t + near];
    }
    if (t < 32 && column < columns) to[blockIdx.y * columns + column] = room[t];
}
