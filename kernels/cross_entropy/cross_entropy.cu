// cross_entropy: at each position the loss
//     -sum over classes c of weight[c] share[c] log_softmax(x)[c]
// of x [outer, classes, inner], and its gradient. share[c] is `spread`, plus `own` where c is the label,
// or `own` times c's probability. A label that is neither a class nor ignore_index gives NaN.
// Bound by memory: 4 bytes an element of x, 8 for the gradient, 4 more for a probability.
//
//   _sequential   one thread; passes over each position's classes, one sum after the other
//   (plain)       softmax and loss in one kernel, x read once: `lanes` threads share a position, up to
//                 16 classes each in registers, and put together what they find as in softmax.cu;
//                 more classes are read again where shares ask for it. A block adds up its
//                 positions' losses in a tree; `reduce`, one block, those of the blocks
//   weigh         by what "mean" divides, before the gradient: reads the labels alone
//
// Sums are of exp(x - greatest); see softmax.cu for infinities.

constexpr int THREADS = 256;
constexpr unsigned ALL = 0xffffffffu;
constexpr float LEAST = -3.402823466e38f;

__device__ inline float minus_infinity() { return __int_as_float(0xff800000); }
__device__ inline float not_a_number() { return __int_as_float(0x7fc00000); }

constexpr int IGNORED = -1, WRONG = -2;  // labels

// What is common to all positions.
struct Terms {
    const float* x;
    const long long* labels;
    const float *probabilities, *weight;
    int classes, inner;
    bool labelled, weighted;
    long long ignore_index;
    float own, spread;

    __device__ int label(long long position) const
    {
        const long long given = labels[position];
        return given == ignore_index ? IGNORED : given >= 0 && given < classes ? (int)given : WRONG;
    }
    __device__ float weight_of(int c) const { return weighted ? weight[c] : 1.0f; }
    // By what "mean" counts a label.
    __device__ float counted(int label) const
    {
        return label == IGNORED ? 0.0f : label == WRONG ? not_a_number() : weight_of(label);
    }
    // weight times share of class c of the position that begins at `at`.
    __device__ float term(unsigned at, int c, int label) const
    {
        if (labelled) return weight_of(c) * (c == label ? own + spread : spread);
        return weight_of(c) * (own * probabilities[at + c * inner] + spread);
    }
};

// Where a thread works.
struct Place {
    int lanes, lane;
    int width;  // how many threads apart the lanes of a position are
    unsigned position;
    unsigned at;  // of the position's first class
    bool there;  // beyond the last position, a thread works on that, and writes nothing

    __device__ Place(unsigned outer, unsigned classes, unsigned inner, int bits) : lanes(1 << bits)
    {
        const int t = threadIdx.x, side_by_side = THREADS >> bits;
        width = inner == 1 ? 1 : side_by_side;
        lane = inner == 1 ? t & (lanes - 1) : t >> (8 - bits);
        position = blockIdx.x * side_by_side + (inner == 1 ? t >> bits : t & (side_by_side - 1));
        there = position < outer * inner;
        if (!there) position = outer * inner - 1;
        at = inner == 1 ? position * classes : position / inner * classes * inner + position % inner;
    }
};

template <bool MAX>
__device__ inline float fold(float a, float b) { return MAX ? fmaxf(a, b) : a + b; }

// The sum, or the greatest, over the lanes of each position; every thread of the block comes here.
template <bool MAX>
__device__ __forceinline__ float over_lanes(const Place& place, float* room, float value)
{
    const int t = threadIdx.x;
    if (place.lanes == 1) return value;
    if (place.width == 1) {
        for (int step = min(place.lanes, 32) / 2; step; step /= 2)
            value = fold<MAX>(value, __shfl_xor_sync(ALL, value, step));
        if (place.lanes <= 32) return value;
        __syncthreads();
        if (t % 32 == 0) room[t / 32] = value;
        __syncthreads();
        const int first = (t - place.lane) / 32;
        value = room[first];
        for (int warp = 1; warp < place.lanes / 32; warp++) value = fold<MAX>(value, room[first + warp]);
        return value;
    }
    __syncthreads();
    room[t] = value;
    for (int near = place.lanes / 2; near; near /= 2) {
        __syncthreads();
        if (place.lane < near) room[t] = fold<MAX>(room[t], room[t + near * place.width]);
    }
    __syncthreads();
    return room[t & (place.width - 1)];
}

// The sum over the block, to its first thread.
__device__ __forceinline__ float over_block(float* room, float value)
{
    for (int step = 16; step; step /= 2) value += __shfl_xor_sync(ALL, value, step);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    value = room[0];
    for (int warp = 1; warp < THREADS / 32; warp++) value += room[warp];
    return value;
}

// Of a position's classes those of one lane, EACH at a time; where there are no more, they stay.
template <int EACH>
struct Classes {
    float v[EACH], greatest, total;  // the position's greatest, and sum of exp(x - greatest)

    __device__ void load(const Terms& terms, const Place& place, unsigned first)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const unsigned c = first + i * place.lanes;
            v[i] = c < terms.classes ? terms.x[place.at + c * terms.inner] : minus_infinity();
        }
    }

    __device__ void pass(const Terms& terms, const Place& place, float* room)
    {
        float most = LEAST, sum = 0.0f;
        for (unsigned first = place.lane; first < terms.classes; first += EACH * place.lanes) {
            const float before = most;
            load(terms, place, first);
#pragma unroll
            for (int i = 0; i < EACH; i++) most = fmaxf(most, v[i]);
            sum *= expf(before - most);
#pragma unroll
            for (int i = 0; i < EACH; i++) sum += expf(v[i] - most);
        }
        greatest = over_lanes<true>(place, room, most);
        total = over_lanes<false>(place, room, sum * expf(most - greatest));
    }
};

// A position's loss.
template <int EACH>
__device__ __forceinline__ float loss_of(const Terms& terms, const Place& place, float* room, int label)
{
    Classes<EACH> classes;
    classes.pass(terms, place, room);
    const float most = classes.greatest, less = logf(classes.total);
    if (terms.labelled && terms.spread == 0.0f)
        return label < 0 ? terms.counted(label)
                         : -terms.own * terms.weight_of(label) *
                               (terms.x[place.at + label * terms.inner] - most - less);
    float sum = 0.0f;
    for (unsigned first = place.lane; first < terms.classes; first += EACH * place.lanes) {
        if (terms.classes > EACH * place.lanes) classes.load(terms, place, first);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const unsigned c = first + i * place.lanes;
            if (c < terms.classes) sum -= terms.term(place.at, c, label) * (classes.v[i] - most - less);
        }
    }
    sum = over_lanes<false>(place, room, sum);
    return terms.labelled && label < 0 ? terms.counted(label) : sum;
}

// gx of a position, whose loss has the gradient g.
template <int EACH>
__device__ __forceinline__ void gradient_of(const Terms& terms, const Place& place, float* room, int label,
                                            float g, float* gx)
{
    Classes<EACH> classes;
    classes.pass(terms, place, room);
    float shares = 0.0f;
    if (!terms.labelled || terms.spread != 0.0f) {
        for (unsigned c = place.lane; c < terms.classes; c += place.lanes)
            shares += terms.term(place.at, c, label);
        shares = over_lanes<false>(place, room, shares);
    } else if (label >= 0) {
        shares = terms.term(place.at, label, label);
    }
    if (terms.labelled && label < 0) g = terms.counted(label);
    if (!place.there) return;
    for (unsigned first = place.lane; first < terms.classes; first += EACH * place.lanes) {
        if (terms.classes > EACH * place.lanes) classes.load(terms, place, first);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const unsigned c = first + i * place.lanes;
            if (c >= terms.classes) continue;
            const float p = expf(classes.v[i] - classes.greatest) / classes.total;
            gx[place.at + c * terms.inner] = (p * shares - terms.term(place.at, c, label)) * g;
        }
    }
}

// x and probabilities [outer, classes, inner], labels [outer, inner], weight [classes]. losses [outer,
// inner] or, to reduce, [1]; from the parallel kernel, sums [blocks] of losses and counts.
extern "C" __global__ void cross_entropy_forward_sequential(
    const float* x, const long long* labels, const float* probabilities, const float* weight, float* losses,
    float* counts, long long outer, long long classes, long long inner, long long bits, long long labelled,
    long long weighted, long long ignore_index, float own, float spread, long long reduce, long long mean)
{
    const Terms terms = {x, labels, probabilities, weight, (int)classes, (int)inner, labelled != 0,
                         weighted != 0, ignore_index, own, spread};
    float total = 0.0f, count = 0.0f;
    for (long long p = 0; p < outer * inner; p++) {
        const long long at = p / inner * classes * inner + p % inner;
        const int label = labelled ? terms.label(p) : 0;
        float greatest = LEAST, sum = 0.0f, loss = 0.0f;
        for (long long c = 0; c < classes; c++) greatest = fmaxf(greatest, x[at + c * inner]);
        for (long long c = 0; c < classes; c++) sum += expf(x[at + c * inner] - greatest);
        const float less = logf(sum);
        for (long long c = 0; c < classes; c++)
            if (!labelled || spread != 0.0f || c == label)
                loss -= terms.term(at, c, label) * (x[at + c * inner] - greatest - less);
        if (label < 0) loss = terms.counted(label);
        if (!reduce) losses[p] = loss;
        total += loss, count += labelled ? terms.counted(label) : 1.0f;
    }
    if (reduce) losses[0] = mean ? total / count : total;
}

// Blocks of 256 / lanes positions, lanes = 2^bits: up to 256.
extern "C" __global__ void __launch_bounds__(256, 4) cross_entropy_forward(
    const float* __restrict__ x, const long long* __restrict__ labels, const float* __restrict__ probabilities,
    const float* __restrict__ weight, float* __restrict__ losses, float* __restrict__ counts,
    long long outer, long long classes, long long inner, long long bits, long long labelled,
    long long weighted, long long ignore_index, float own, float spread, long long reduce, long long mean)
{
    __shared__ float room[THREADS];
    const Terms terms = {x, labels, probabilities, weight, (int)classes, (int)inner, labelled != 0,
                         weighted != 0, ignore_index, own, spread};
    const Place place(outer, classes, inner, bits);
    const int label = labelled ? terms.label(place.position) : 0;
    const float loss = classes <= 4 * place.lanes ? loss_of<4>(terms, place, room, label)
                                                  : loss_of<16>(terms, place, room, label);
    const bool mine = place.there && place.lane == 0;
    if (!reduce) {
        if (mine) losses[place.position] = loss;
        return;
    }
    const float total = over_block(room, mine ? loss : 0.0f);
    const float count = over_block(room, !mine ? 0.0f : labelled ? terms.counted(label) : 1.0f);
    if (threadIdx.x == 0) losses[blockIdx.x] = total, counts[blockIdx.x] = count;
}

// y [1]: the sum of losses [count], over that of counts for the mean. One block.
extern "C" __global__ void cross_entropy_reduce(const float* __restrict__ losses,
                                                const float* __restrict__ counts, float* __restrict__ y,
                                                long long count, long long mean)
{
    __shared__ float room[THREADS];
    float total = 0.0f, counted = 0.0f;
    for (long long i = threadIdx.x; i < count; i += THREADS) total += losses[i], counted += counts[i];
    total = over_block(room, total);
    counted = over_block(room, counted);
    if (threadIdx.x == 0) y[0] = mean ? total / counted : total;
}

// y [blocks]: the weights of a block's `part` of labels [count].
extern "C" __global__ void cross_entropy_weigh(const long long* __restrict__ labels,
                                               const float* __restrict__ weight, float* __restrict__ y,
                                               long long count, long long classes, long long weighted,
                                               long long ignore_index, long long part)
{
    __shared__ float room[THREADS];
    const Terms terms = {0, labels, 0, weight, (int)classes, 1, true, weighted != 0, ignore_index, 0.0f, 0.0f};
    const int begin = blockIdx.x * part, end = min((int)count, begin + (int)part);
    float total = 0.0f;
    for (int i = begin + threadIdx.x; i < end; i += THREADS) total += terms.counted(terms.label(i));
    total = over_block(room, total);
    if (threadIdx.x == 0) y[blockIdx.x] = total;
}

// gy [1], or [outer, inner] where each position has its own. It is divided for the mean by divisor [1],
// which one thread finds itself, else by `count`. gx as x.
extern "C" __global__ void cross_entropy_backward_sequential(
    const float* gy, const float* x, const long long* labels, const float* probabilities, const float* weight,
    const float* divisor, float* gx, long long outer, long long classes, long long inner, long long bits,
    long long labelled, long long weighted, long long ignore_index, float own, float spread, long long each,
    long long mean, float count)
{
    const Terms terms = {x, labels, probabilities, weight, (int)classes, (int)inner, labelled != 0,
                         weighted != 0, ignore_index, own, spread};
    float total = 0.0f;
    for (long long p = 0; mean && p < outer * inner; p++) total += terms.counted(terms.label(p));
    for (long long p = 0; p < outer * inner; p++) {
        const long long at = p / inner * classes * inner + p % inner;
        const int label = labelled ? terms.label(p) : 0;
        const float g = label < 0 ? terms.counted(label) : gy[each ? p : 0] / (mean ? total : count);
        float greatest = LEAST, sum = 0.0f, shares = 0.0f;
        for (long long c = 0; c < classes; c++) greatest = fmaxf(greatest, x[at + c * inner]);
        for (long long c = 0; c < classes; c++) {
            sum += expf(x[at + c * inner] - greatest);
            shares += terms.term(at, c, label);
        }
        for (long long c = 0; c < classes; c++)
            gx[at + c * inner] =
                (expf(x[at + c * inner] - greatest) / sum * shares - terms.term(at, c, label)) * g;
    }
}

extern "C" __global__ void __launch_bounds__(256, 4) cross_entropy_backward(
    const float* __restrict__ gy, const float* __restrict__ x, const long long* __restrict__ labels,
    const float* __restrict__ probabilities, const float* __restrict__ weight,
    const float* __restrict__ divisor, float* __restrict__ gx, long long outer, long long classes,
    long long inner, long long bits, long long labelled, long long weighted, long long ignore_index,
    float own, float spread, long long each, long long mean, float count)
{
    __shared__ float room[THREADS];
    const Terms terms = {x, labels, probabilities, weight, (int)classes, (int)inner, labelled != 0,
                         weighted != 0, ignore_index, own, spread};
    const Place place(outer, classes, inner, bits);
    const float g = gy[each ? place.position : 0] / (mean ? divisor[0] : count);
    const int label = labelled ? terms.label(place.position) : 0;
    if (classes <= 4 * place.lanes) gradient_of<4>(terms, place, room, label, g, gx);
    else gradient_of<16>(terms, place, room, label, g, gx);
}
