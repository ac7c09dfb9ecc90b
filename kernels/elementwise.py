"""In which order of memory torch lays the result of an elementwise operator.

The rule is that of ATen's TensorIterator (aten/src/ATen/TensorIterator.cpp: `fast_set_up`,
`reorder_dimensions`, `allocate_or_resize_outputs`): the result is dense, with its dimensions in
the order of the first operand's strides; those it does not tell apart are for the next operand.
"""

from __future__ import annotations

import functools

from kernels.arrays import Array

Shape = tuple[int, ...]
Layout = tuple[Shape, Shape]
"""An array's shape and strides."""
Permutation = tuple[int, ...]

CHANNELS_LAST = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


def memory_order(shape: Shape, *operands: Array) -> tuple[Permutation, Permutation]:
    """The result's dimensions from the outermost in memory to the innermost, and the way back.

    `shape` is what the operands broadcast to. Negative strides count by their size.
    """
    layouts = tuple([(array.shape, array.strides) for array in operands])
    return _memory_order(shape, layouts, operands[0].itemsize)


def inverse(order: Permutation) -> Permutation:
    """The permutation that undoes `order`."""
    return tuple(order.index(axis) for axis in range(len(order)))


@functools.lru_cache(maxsize=1024)
def _memory_order(
    shape: Shape, operands: tuple[Layout, ...], itemsize: int
) -> tuple[Permutation, Permutation]:
    plain = tuple(range(len(shape)))
    if all(own == shape for own, _ in operands):
        for usual in (plain, CHANNELS_LAST.get(len(shape), plain)):
            if all(_is_dense(*operand, itemsize, usual) for operand in operands):
                return usual, inverse(usual)
    strides = [_strides(*operand, shape) for operand in operands]
    order = list(reversed(plain))
    for first in range(1, len(order)):
        moving = first
        for other in range(first - 1, -1, -1):
            swap = _compare(order[other], order[moving], shape, strides)
            if swap > 0:
                order[other], order[moving] = order[moving], order[other]
                moving = other
            elif swap < 0:
                break
    found = tuple(reversed(order))
    return found, inverse(found)


def _is_dense(shape: Shape, strides: Shape, itemsize: int, order: Permutation) -> bool:
    """Whether the elements lie one after another in that order, as far as strides matter."""
    wanted = itemsize
    for axis in reversed(order):
        if shape[axis] != 1 and strides[axis] != wanted and 0 not in shape:
            return False
        wanted *= shape[axis]
    return True


def _strides(own: Shape, strides: Shape, shape: Shape) -> list[int]:
    """Zero where the array is repeated along a dimension."""
    missing = len(shape) - len(own)
    return [0] * missing + [
        0 if size == 1 != full else abs(stride)
        for size, stride, full in zip(own, strides, shape[missing:], strict=True)
    ]


def _compare(inner: int, outer: int, shape: Shape, strides: list[list[int]]) -> int:
    """Positive where the two have to change places, negative where they must not."""
    for steps in strides:
        a, b = steps[inner], steps[outer]
        if a == 0 or b == 0:
            continue
        if a != b:
            return 1 if a > b else -1
        if shape[inner] > shape[outer]:
            return 1
    return 0
