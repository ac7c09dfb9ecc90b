// cross_entropy: at each position the loss
//     -sum over classes c of weight[c] share[c] log_softmax(x)[c]
// of x [outer, classes, inner], and its gradient. share[c] is `spread`, plus `own` where c is the label,
// or `own` times c's probability. A label that is neither a class nor ignore_index gives NaN.
// Bound by memory: 4 bytes an element of x, 8 for the gradient, 4 more for a probability.
//
//   _sequential   one thread; passes over each position's classes, one sum after the other
//   (plain)       softmax and loss in one kernel, x read once: `lanes` threads share a position, up to
//                 16 classes each in registers, and put together what they find as in softmax.cu;
//                 more classes are read again where shares ask for it. A threadgroup adds up its
//                 positions' losses in a tree; `reduce`, one group, those of the groups
//   weigh         by what "mean" divides, before the gradient: reads the labels alone
//
// Sums are of exp(x - greatest); see softmax.cu for infinities.

#include <metal_stdlib>
using namespace metal;

constexpr constant int THREADS = 256;
constexpr constant float LEAST = -3.402823466e38f;
constexpr constant int IGNORED = -1, WRONG = -2;  // labels

// What is common to all positions.
struct Terms {
    device const float* x;
    device const long* labels;
    device const float* probabilities;
    device const float* weight;
    int classes, inner;
    bool labelled, weighted;
    long ignore_index;
    float own, spread;

    int label(long position) const
    {
        const long given = labels[position];
        return given == ignore_index ? IGNORED : given >= 0 && given < classes ? int(given) : WRONG;
    }
    float weight_of(int c) const { return weighted ? weight[c] : 1.0f; }
    // By what "mean" counts a label.
    float counted(int label) const
    {
        return label == IGNORED ? 0.0f : label == WRONG ? NAN : weight_of(label);
    }
    // weight times share of class c of the position that begins at `at`.
    float term(uint at, int c, int label) const
    {
        if (labelled) return weight_of(c) * (c == label ? own + spread : spread);
        return weight_of(c) * (own * probabilities[at + c * inner] + spread);
    }
};

// Where a thread works.
struct Place {
    int lanes, thread_index, lane;
    int width;  // how many threads apart the lanes of a position are
    uint position;
    uint at;  // of the position's first class
    bool there;  // beyond the last position, a thread works on that, and writes nothing

    Place(uint outer, uint classes, uint inner, int bits, uint group, uint t)
        : lanes(1 << bits), thread_index(t)
    {
        const int side_by_side = THREADS >> bits;
        width = inner == 1 ? 1 : side_by_side;
        lane = inner == 1 ? t & (lanes - 1) : t >> (8 - bits);
        position = group * side_by_side + (inner == 1 ? t >> bits : t & (side_by_side - 1));
        there = position < outer * inner;
        if (!there) position = outer * inner - 1;
        at = inner == 1 ? position * classes : position / inner * classes * inner + position % inner;
    }
};

template <bool MAX>
inline float fold(float a, float b) { return MAX ? fmax(a, b) : a + b; }

// The sum, or the greatest, over the lanes of each position; every thread of the group comes here.
template <bool MAX, class Room>
inline float over_lanes(thread const Place& place, Room room, float value)
{
    const int t = place.thread_index;
    if (place.lanes == 1) return value;
    if (place.width == 1) {
        for (int step = min(place.lanes, 32) / 2; step; step /= 2)
            value = fold<MAX>(value, simd_shuffle_xor(value, ushort(step)));
        if (place.lanes <= 32) return value;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t % 32 == 0) room[t / 32] = value;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int first = (t - place.lane) / 32;
        value = room[first];
        for (int wave = 1; wave < place.lanes / 32; wave++) value = fold<MAX>(value, room[first + wave]);
        return value;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    room[t] = value;
    for (int near = place.lanes / 2; near; near /= 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (place.lane < near) room[t] = fold<MAX>(room[t], room[t + near * place.width]);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return room[t & (place.width - 1)];
}

// The sum over the threadgroup, to its first thread.
template <class Room>
inline float over_block(Room room, float value, uint t)
{
    for (int step = 16; step; step /= 2) value += simd_shuffle_xor(value, ushort(step));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t % 32 == 0) room[t / 32] = value;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    value = room[0];
    for (int wave = 1; wave < THREADS / 32; wave++) value += room[wave];
    return value;
}

// Of a position's classes those of one lane, EACH at a time; where there are no more, they stay.
template <int EACH>
struct Classes {
    float v[EACH], greatest, total;  // the position's greatest, and sum of exp(x - greatest)

    void load(thread const Terms& terms, thread const Place& place, uint first)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const uint c = first + i * place.lanes;
            v[i] = c < terms.classes ? terms.x[place.at + c * terms.inner] : -INFINITY;
        }
    }

    template <class Room>
    void pass(thread const Terms& terms, thread const Place& place, Room room)
    {
        float most = LEAST, sum = 0.0f;
        for (uint first = place.lane; first < terms.classes; first += EACH * place.lanes) {
            const float before = most;
            load(terms, place, first);
#pragma unroll
            for (int i = 0; i < EACH; i++) most = fmax(most, v[i]);
            sum *= precise::exp(before - most);
#pragma unroll
            for (int i = 0; i < EACH; i++) sum += precise::exp(v[i] - most);
        }
        greatest = over_lanes<true>(place, room, most);
        total = over_lanes<false>(place, room, sum * precise::exp(most - greatest));
    }
};

// A position's loss.
template <int EACH, class Room>
inline float loss_of(thread const Terms& terms, thread const Place& place, Room room, int label)
{
    Classes<EACH> classes;
    classes.pass(terms, place, room);
    const float most = classes.greatest, less = precise::log(classes.total);
    if (terms.labelled && terms.spread == 0.0f)
        return label < 0 ? terms.counted(label)
                         : -terms.own * terms.weight_of(label) *
                               (terms.x[place.at + label * terms.inner] - most - less);
    float sum = 0.0f;
    for (uint first = place.lane; first < terms.classes; first += EACH * place.lanes) {
        if (terms.classes > EACH * place.lanes) classes.load(terms, place, first);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const uint c = first + i * place.lanes;
            if (c < terms.classes) sum -= terms.term(place.at, c, label) * (classes.v[i] - most - less);
        }
    }
    sum = over_lanes<false>(place, room, sum);
    return terms.labelled && label < 0 ? terms.counted(label) : sum;
}

// gx of a position, whose loss has the gradient g.
template <int EACH, class Room>
inline void gradient_of(thread const Terms& terms, thread const Place& place, Room room, int label,
                        float g, device float* gx)
{
    Classes<EACH> classes;
    classes.pass(terms, place, room);
    float shares = 0.0f;
    if (!terms.labelled || terms.spread != 0.0f) {
        for (uint c = place.lane; c < terms.classes; c += place.lanes)
            shares += terms.term(place.at, c, label);
        shares = over_lanes<false>(place, room, shares);
    } else if (label >= 0) {
        shares = terms.term(place.at, label, label);
    }
    if (terms.labelled && label < 0) g = terms.counted(label);
    if (!place.there) return;
    for (uint first = place.lane; first < terms.classes; first += EACH * place.lanes) {
        if (terms.classes > EACH * place.lanes) classes.load(terms, place, first);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const uint c = first + i * place.lanes;
            if (c >= terms.classes) continue;
            const float p = precise::exp(classes.v[i] - classes.greatest) / classes.total;
            gx[place.at + c * terms.inner] = (p * shares - terms.term(place.at, c, label)) * g;
        }
    }
}

// x and probabilities [outer, classes, inner], labels [outer, inner], weight [classes]. losses [outer,
// inner] or, to reduce, [1]; from the parallel kernel, sums [groups] of losses and counts.
kernel void cross_entropy_forward_sequential(
    device const float* x [[buffer(0)]], device const long* labels [[buffer(1)]],
    device const float* probabilities [[buffer(2)]], device const float* weight [[buffer(3)]],
    device float* losses [[buffer(4)]], device float* counts [[buffer(5)]],
    constant long& outer [[buffer(6)]], constant long& classes [[buffer(7)]],
    constant long& inner [[buffer(8)]], constant long& bits [[buffer(9)]],
    constant long& labelled [[buffer(10)]], constant long& weighted [[buffer(11)]],
    constant long& ignore_index [[buffer(12)]], constant float& own [[buffer(13)]],
    constant float& spread [[buffer(14)]], constant long& reduce [[buffer(15)]],
    constant long& mean [[buffer(16)]])
{
    const Terms terms = {x, labels, probabilities, weight, int(classes), int(inner), labelled != 0,
                         weighted != 0, ignore_index, own, spread};
    float total = 0.0f, count = 0.0f;
    for (long p = 0; p < outer * inner; p++) {
        const long at = p / inner * classes * inner + p % inner;
        const int label = labelled ? terms.label(p) : 0;
        float greatest = LEAST, sum = 0.0f, loss = 0.0f;
        for (long c = 0; c < classes; c++) greatest = fmax(greatest, x[at + c * inner]);
        for (long c = 0; c < classes; c++) sum += precise::exp(x[at + c * inner] - greatest);
        const float less = precise::log(sum);
        for (long c = 0; c < classes; c++)
            if (!labelled || spread != 0.0f || c == label)
                loss -= terms.term(at, c, label) * (x[at + c * inner] - greatest - less);
        if (label < 0) loss = terms.counted(label);
        if (!reduce) losses[p] = loss;
        total += loss, count += labelled ? terms.counted(label) : 1.0f;
    }
    if (reduce) losses[0] = mean ? total / count : total;
}

// Threadgroups of 256 / lanes positions, lanes = 2^bits: up to 256.
kernel void cross_entropy_forward(
    device const float* x [[buffer(0)]], device const long* labels [[buffer(1)]],
    device const float* probabilities [[buffer(2)]], device const float* weight [[buffer(3)]],
    device float* losses [[buffer(4)]], device float* counts [[buffer(5)]],
    constant long& outer [[buffer(6)]], constant long& classes [[buffer(7)]],
    constant long& inner [[buffer(8)]], constant long& bits [[buffer(9)]],
    constant long& labelled [[buffer(10)]], constant long& weighted [[buffer(11)]],
    constant long& ignore_index [[buffer(12)]], constant float& own [[buffer(13)]],
    constant float& spread [[buffer(14)]], constant long& reduce [[buffer(15)]],
    constant long& mean [[buffer(16)]], uint group [[threadgroup_position_in_grid]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[THREADS];
    const Terms terms = {x, labels, probabilities, weight, int(classes), int(inner), labelled != 0,
                         weighted != 0, ignore_index, own, spread};
    const Place place(outer, classes, inner, bits, group, t);
    const int label = labelled ? terms.label(place.position) : 0;
    const float loss = classes <= 4 * place.lanes ? loss_of<4>(terms, place, &room[0], label)
                                                  : loss_of<16>(terms, place, &room[0], label);
    const bool mine = place.there && place.lane == 0;
    if (!reduce) {
        if (mine) losses[place.position] = loss;
        return;
    }
    const float total = over_block(&room[0], mine ? loss : 0.0f, t);
    const float count = over_block(&room[0], !mine ? 0.0f : labelled ? terms.counted(label) : 1.0f, t);
    if (t == 0) losses[group] = total, counts[group] = count;
}

// y [1]: the sum of losses [count], over that of counts for the mean. One threadgroup.
kernel void cross_entropy_reduce(
    device const float* losses [[buffer(0)]], device const float* counts [[buffer(1)]],
    device float* y [[buffer(2)]], constant long& count [[buffer(3)]], constant long& mean [[buffer(4)]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[THREADS];
    float total = 0.0f, counted = 0.0f;
    for (long i = t; i < count; i += THREADS) total += losses[i], counted += counts[i];
    total = over_block(&room[0], total, t);
    counted = over_block(&room[0], counted, t);
    if (t == 0) y[0] = mean ? total / counted : total;
}

// y [groups]: the weights of a group's `part` of labels [count].
kernel void cross_entropy_weigh(
    device const long* labels [[buffer(0)]], device const float* weight [[buffer(1)]],
    device float* y [[buffer(2)]], constant long& count [[buffer(3)]], constant long& classes [[buffer(4)]],
    constant long& weighted [[buffer(5)]], constant long& ignore_index [[buffer(6)]],
    constant long& part [[buffer(7)]], uint group [[threadgroup_position_in_grid]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[THREADS];
    const Terms terms = {0, labels, 0, weight, int(classes), 1, true, weighted != 0, ignore_index, 0.0f, 0.0f};
    const int begin = group * part, end = min(int(count), begin + int(part));
    float total = 0.0f;
    for (int i = begin + t; i < end; i += THREADS) total += terms.counted(terms.label(i));
    total = over_block(&room[0], total, t);
    if (t == 0) y[group] = total;
}

// gy [1], or [outer, inner] where each position has its own. It is divided for the mean by divisor [1],
// which one thread finds itself, else by `count`. gx as x.
kernel void cross_entropy_backward_sequential(
    device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
    device const long* labels [[buffer(2)]], device const float* probabilities [[buffer(3)]],
    device const float* weight [[buffer(4)]], device const float* divisor [[buffer(5)]],
    device float* gx [[buffer(6)]], constant long& outer [[buffer(7)]],
    constant long& classes [[buffer(8)]], constant long& inner [[buffer(9)]],
    constant long& bits [[buffer(10)]], constant long& labelled [[buffer(11)]],
    constant long& weighted [[buffer(12)]], constant long& ignore_index [[buffer(13)]],
    constant float& own [[buffer(14)]], constant float& spread [[buffer(15)]],
    constant long& each [[buffer(16)]], constant long& mean [[buffer(17)]],
    constant float& count [[buffer(18)]])
{
    const Terms terms = {x, labels, probabilities, weight, int(classes), int(inner), labelled != 0,
                         weighted != 0, ignore_index, own, spread};
    float total = 0.0f;
    for (long p = 0; mean && p < outer * inner; p++) total += terms.counted(terms.label(p));
    for (long p = 0; p < outer * inner; p++) {
        const long at = p / inner * classes * inner + p % inner;
        const int label = labelled ? terms.label(p) : 0;
        const float g = label < 0 ? terms.counted(label) : gy[each ? p : 0] / (mean ? total : count);
        float greatest = LEAST, sum = 0.0f, shares = 0.0f;
        for (long c = 0; c < classes; c++) greatest = fmax(greatest, x[at + c * inner]);
        for (long c = 0; c < classes; c++) {
            sum += precise::exp(x[at + c * inner] - greatest);
            shares += terms.term(at, c, label);
        }
        for (long c = 0; c < classes; c++)
            gx[at + c * inner] =
                (precise::exp(x[at + c * inner] - greatest) / sum * shares - terms.term(at, c, label)) * g;
    }
}

kernel void cross_entropy_backward(
    device const float* gy [[buffer(0)]], device const float* x [[buffer(1)]],
    device const long* labels [[buffer(2)]], device const float* probabilities [[buffer(3)]],
    device const float* weight [[buffer(4)]], device const float* divisor [[buffer(5)]],
    device float* gx [[buffer(6)]], constant long& outer [[buffer(7)]],
    constant long& classes [[buffer(8)]], constant long& inner [[buffer(9)]],
    constant long& bits [[buffer(10)]], constant long& labelled [[buffer(11)]],
    constant long& weighted [[buffer(12)]], constant long& ignore_index [[buffer(13)]],
    constant float& own [[buffer(14)]], constant float& spread [[buffer(15)]],
    constant long& each [[buffer(16)]], constant long& mean [[buffer(17)]],
    constant float& count [[buffer(18)]], uint group [[threadgroup_position_in_grid]],
    uint t [[thread_index_in_threadgroup]])
{
    threadgroup float room[THREADS];
    const Terms terms = {x, labels, probabilities, weight, int(classes), int(inner), labelled != 0,
                         weighted != 0, ignore_index, own, spread};
    const Place place(outer, classes, inner, bits, group, t);
    const float g = gy[each ? place.position : 0] / (mean ? divisor[0] : count);
    const int label = labelled ? terms.label(place.position) : 0;
    if (classes <= 4 * place.lanes) gradient_of<4>(terms, place, &room[0], label, g, gx);
    else gradient_of<16>(terms, place, &room[0], label, g, gx);
}
