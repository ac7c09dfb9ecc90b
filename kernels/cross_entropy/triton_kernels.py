"""cross_entropy: log_softmax and the negative log likelihood at once; nothing is laid out between.

A program takes a tile of positions, all their classes tile after tile: 4 bytes an element, once
for the greatest logit and the sum; a second time, from the cache where it holds them, where all
classes count (label smoothing, probabilities).

    reduction   "none" leaves the losses, and one launch does; else each program leaves two sums, of
                losses and of weights, and a second launch of one program adds those up: always in
                the same order. Where one program covers everything, it does so itself.

A label that is neither a class nor to be ignored gives NaN, and nothing is read by it.
"""

import triton
import triton.language as tl

from kernels.softmax.triton_kernels import greatest_and_sum, logits, start_of

TERMS = tl.constexpr(1024)


@triton.jit(do_not_specialize=["positions", "ignore_index"])
def cross_entropy(
    x,  # [n, classes, inner]
    target,  # [positions], or as x
    class_weight,  # [classes]
    y,  # [positions] or [1] or [programs, 2]
    positions,
    classes,
    inner,
    ignore_index,
    smoothing,
    labelled: tl.constexpr,
    weighted: tl.constexpr,
    smoothed: tl.constexpr,
    reduction: tl.constexpr,
    alone: tl.constexpr,
    block_classes: tl.constexpr,
    block_positions: tl.constexpr,
):
    """The losses of a tile of positions, or the sums of these and of their weights."""
    position = tl.program_id(0) * block_positions + tl.arange(0, block_positions)
    kept = position < positions
    start = start_of(position, classes, inner)
    greatest, total = greatest_and_sum(
        x, start, kept, classes, inner, block_classes, block_positions
    )
    log_total = tl.log(total)

    loss = tl.zeros((block_positions,), tl.float32)
    share = tl.where(kept, 1.0, 0.0)  # of the mean's divisor
    if labelled:
        label = tl.load(target + position, mask=kept, other=0).to(tl.int64)
        ignored = label == ignore_index
        known = kept & (label >= 0) & (label < classes) & (ignored == 0)
        if weighted:
            share = tl.load(class_weight + label, mask=known, other=0.0)
        else:
            share = tl.where(known, 1.0, 0.0)
        logit = tl.load(x + start + label * inner, mask=known, other=0.0)
        loss = share * (log_total - (logit - greatest))
    if smoothed or not labelled:
        spread = tl.zeros((block_positions,), tl.float32)
        for first in range(0, classes, block_classes):
            tile, at, there = logits(x, start, kept, first, classes, inner, block_classes)
            terms = log_total[None, :] - (tile - greatest[None, :])
            if not labelled:
                wanted = tl.load(target + at, mask=there, other=0.0)
                if smoothed:
                    wanted = wanted * (1.0 - smoothing) + smoothing / classes
                terms *= wanted
            if weighted:
                c = first + tl.arange(0, block_classes)
                terms *= tl.load(class_weight + c, mask=c < classes, other=0.0)[:, None]
            spread += tl.sum(tl.where(there, terms, 0.0), 0)
        loss = loss * (1.0 - smoothing) + spread * (smoothing / classes) if labelled else spread
    if labelled:
        loss = tl.where(known, loss, tl.where(ignored, 0.0, float("nan")))

    if reduction == "none":
        tl.store(y + position, loss, mask=kept)
    else:
        losses = tl.sum(tl.where(kept, loss, 0.0), 0)
        shares = tl.sum(share, 0)
        if alone:
            tl.store(y, losses / shares if reduction == "mean" else losses)
        else:
            tl.store(y + 2 * tl.program_id(0), losses)
            tl.store(y + 2 * tl.program_id(0) + 1, shares)


@triton.jit(do_not_specialize=["programs"])
def reduced(sums, y, programs, reduction: tl.constexpr):
    """[programs, 2] -> [1], by one program."""
    losses = tl.zeros((TERMS,), tl.float32)
    shares = tl.zeros((TERMS,), tl.float32)
    for first in range(0, programs, TERMS):
        i = first + tl.arange(0, TERMS)
        losses += tl.load(sums + 2 * i, mask=i < programs, other=0.0)
        shares += tl.load(sums + 2 * i + 1, mask=i < programs, other=0.0)
    loss = tl.sum(losses, 0)
    tl.store(y, loss / tl.sum(shares, 0) if reduction == "mean" else loss)
