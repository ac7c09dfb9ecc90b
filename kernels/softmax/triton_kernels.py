"""softmax and log_softmax. A position is one distribution over the classes; memory-bound.

A program takes a tile of classes and positions: several positions where the classes are few.

    whole       all classes in one tile, which stays in registers: one pass over memory, 8 bytes an
                element
    (not)       tile after tile, for the greatest logit and the sum at once, then again for the
                result: 12 bytes an element, of which the cache saves some
"""

import triton
import triton.language as tl


@triton.jit
def start_of(position, classes, inner):
    """Where in [outer, classes, inner] a position's first logit lies."""
    return position // inner * classes * inner + position % inner


@triton.jit
def logits(x, start, kept, first, classes, inner, block_classes: tl.constexpr):
    """([classes, positions], where those lie, which there are); -inf where there is none."""
    c = first + tl.arange(0, block_classes)
    at = start[None, :] + c[:, None] * inner
    there = kept[None, :] & (c < classes)[:, None]
    return tl.load(x + at, mask=there, other=float("-inf")), at, there


@triton.jit
def greatest_and_sum(
    x, start, kept, classes, inner,
    block_classes: tl.constexpr, block_positions: tl.constexpr,
):  # fmt: skip
    """The greatest logit of each position, and the sum of exp(logit - greatest)."""
    greatest = tl.full((block_positions,), float("-inf"), tl.float32)
    total = tl.zeros((block_positions,), tl.float32)
    for first in range(0, classes, block_classes):
        tile, _, _ = logits(x, start, kept, first, classes, inner, block_classes)
        now = tl.maximum(greatest, tl.max(tile, 0))
        # Nothing but -inf so far: a difference of those would be NaN, and stay.
        shift = tl.where(now == float("-inf"), 0.0, now)
        total = total * tl.exp(greatest - shift) + tl.sum(tl.exp(tile - shift[None, :]), 0)
        greatest = now
    return greatest, total


@triton.jit(do_not_specialize=["positions"])
def softmax(
    x,  # [outer, classes, inner]
    y,
    positions,  # outer times inner
    classes,
    inner,
    log: tl.constexpr,
    whole: tl.constexpr,
    block_classes: tl.constexpr,
    block_positions: tl.constexpr,
):
    """The result for a tile of positions."""
    position = tl.program_id(0) * block_positions + tl.arange(0, block_positions)
    kept = position < positions
    start = start_of(position, classes, inner)
    if whole:
        tile, at, there = logits(x, start, kept, 0, classes, inner, block_classes)
        below = tile - tl.max(tile, 0)[None, :]
        powers = tl.exp(below)
        total = tl.sum(powers, 0)[None, :]
        result = below - tl.log(total) if log else powers / total
        tl.store(y + at, result, mask=there)
    else:
        greatest, total = greatest_and_sum(
            x, start, kept, classes, inner, block_classes, block_positions
        )
        for first in range(0, classes, block_classes):
            tile, at, there = logits(x, start, kept, first, classes, inner, block_classes)
            below = tile - greatest[None, :]
            result = below - tl.log(total)[None, :] if log else tl.exp(below) / total[None, :]
            tl.store(y + at, result, mask=there)
