"""One pass over memory, in tasks of a fixed size; what is repeated is read in place.

Both arguments become three dimensions with a step each, zero where they are repeated: a bias over
[N, C, H, W] is read once a row. What needs more dimensions is first written out in full. Each task
works on slices, counted from zero: with an index that starts elsewhere LLVM has to mind Python's
negative indices and gathers single elements.

Sums of gradients run in float64, columns in parts of a fixed size that are added in order.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numba import njit, prange

from kernels.add.operator import AddAlgorithm, Call, Fold
from kernels.arrays import Array
from kernels.compiled import Kernel, tasks_for

GRAIN = 1 << 14
"""Elements of a task; fewer than eight such are done before a second thread would have started."""

Steps = tuple[int, int, int]


class Direct(AddAlgorithm):
    """add on one thread, or over `prange`."""

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`."""
        a, b, tasks = call.input, call.other, tasks_for(output.size, GRAIN)
        alpha, y = output.dtype.type(call.alpha), output.reshape(-1)
        if a.shape == b.shape:
            _alike(self.threaded, threads, tasks, a.ravel(), b.ravel(), alpha, y)
            return
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        steps = _steps(call.shape, a, b)
        if steps is None:
            a, b = (np.ascontiguousarray(np.broadcast_to(array, call.shape)) for array in (a, b))
            steps = (1, 1, output.size), (0, 0, 1), (0, 0, 1)
        a, b = a.reshape(-1), b.reshape(-1)
        _forward(self.threaded, threads, tasks, a, b, alpha, *steps, y)

    def backward(self, fold: Fold, grad: Array, threads: int | None) -> None:
        """Fill `grad`."""
        gy = np.ascontiguousarray(fold.grad).reshape(fold.grad.shape)
        if gy.shape == grad.shape:
            tasks = tasks_for(gy.size, GRAIN)
            alpha = gy.dtype.type(fold.alpha)
            _scale(self.threaded, threads, tasks, gy.reshape(-1), alpha, grad.reshape(-1))
            return
        gy = _outer_kept_inner(gy, grad.shape)
        tasks = tasks_for(gy.size, GRAIN)
        if gy.shape[2] == 1:
            parts = np.zeros((tasks, gy.shape[1]))
            _fold_columns(self.threaded, threads, tasks, gy.reshape(gy.shape[:2]), parts)
            sums = parts.sum(axis=0)
        else:
            sums = np.empty(gy.shape[1])
            _fold_rows(self.threaded, threads, min(tasks, sums.size), gy, sums)
        with np.errstate(all="ignore"):
            grad[...] = (fold.alpha * sums).reshape(grad.shape)


def _steps(shape: tuple[int, ...], a: Array, b: Array) -> tuple[Steps, Steps, Steps] | None:
    """(sizes, a's steps, b's steps) in three dimensions, or None where it takes more."""
    merged: list[list[int]] = []
    for axis in reversed(range(len(shape))):
        size = shape[axis]
        if size == 1:
            continue
        own = [
            0 if array.shape[axis] == 1 else array.strides[axis] // array.itemsize
            for array in (a, b)
        ]
        inner = merged[-1] if merged else None
        if inner and all(own[i] == inner[0] * inner[1 + i] for i in (0, 1)):
            inner[0] *= size
        else:
            merged.append([size, *own])
    if len(merged) > 3:
        return None
    merged = merged or [[1, 1, 1]]
    merged += [[1, 0, 0]] * (3 - len(merged))
    sizes, first, second = zip(*reversed(merged), strict=True)
    return sizes, first, second


def _outer_kept_inner(gy: Array, shape: tuple[int, ...]) -> Array:
    """The gradient as [summed, kept, summed], copied where it does not lie so."""
    kept = [own == size for own, size in zip(gy.shape, shape, strict=True)]
    runs = [
        (keep, [axis for axis, _ in run])
        for keep, run in itertools.groupby(
            ((axis, keep) for axis, keep in enumerate(kept) if gy.shape[axis] > 1),
            key=lambda pair: pair[1],
        )
    ]
    if [keep for keep, _ in runs].count(True) > 1:
        summed = [axis for axis, keep in enumerate(kept) if not keep]
        rest = [axis for axis, keep in enumerate(kept) if keep]
        gy = np.ascontiguousarray(gy.transpose(rest + summed))
        return gy.reshape(1, -1, math.prod(gy.shape[len(rest) :]))
    lengths = [(keep, math.prod(gy.shape[axis] for axis in axes)) for keep, axes in runs]
    if not lengths[0][0] and len(lengths) > 1:
        outer, lengths = lengths[0][1], lengths[1:]
    else:
        outer = 1
    inner = lengths[-1][1] if not lengths[-1][0] else 1
    return gy.reshape(outer, -1, inner)


def _alike_source(tasks, a, b, alpha, y):
    for task in prange(tasks):
        begin, end = y.size * task // tasks, y.size * (task + 1) // tasks
        _add(a[begin:end], b[begin:end], alpha, y[begin:end])


def _forward_source(tasks, a, b, alpha, sizes, a_steps, b_steps, y):
    middle, inner = sizes[1], sizes[2]
    for task in prange(tasks):
        at, end = y.size * task // tasks, y.size * (task + 1) // tasks
        while at < end:
            row = at // inner
            column = at - row * inner
            count = min(inner - column, end - at)
            i, j = row // middle, row % middle
            first = i * a_steps[0] + j * a_steps[1] + column * a_steps[2]
            second = i * b_steps[0] + j * b_steps[1] + column * b_steps[2]
            result = y[at : at + count]
            if a_steps[2] == 0:
                _add_to_number(a[first], b[second : second + count], alpha, result)
            elif b_steps[2] == 0:
                _add_number(a[first : first + count], alpha * b[second], result)
            else:
                _add(a[first : first + count], b[second : second + count], alpha, result)
            at += count


@njit(cache=True, nogil=True)
def _add(a, b, alpha, y):
    for i in range(y.size):
        y[i] = a[i] + alpha * b[i]


@njit(cache=True, nogil=True)
def _add_number(a, number, y):
    for i in range(y.size):
        y[i] = a[i] + number


@njit(cache=True, nogil=True)
def _add_to_number(number, b, alpha, y):
    for i in range(y.size):
        y[i] = number + alpha * b[i]


def _scale_source(tasks, gy, alpha, grad):
    for task in prange(tasks):
        begin, end = gy.size * task // tasks, gy.size * (task + 1) // tasks
        given, result = gy[begin:end], grad[begin:end]
        for i in range(given.size):
            result[i] = alpha * given[i]


def _fold_rows_source(tasks, gy, sums):
    for task in prange(tasks):
        for k in range(sums.size * task // tasks, sums.size * (task + 1) // tasks):
            total = 0.0
            for i in range(gy.shape[0]):
                total += _sum(gy[i, k])
            sums[k] = total


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _sum(row):
    total = 0.0
    for i in range(row.size):
        total += row[i]
    return total


def _fold_columns_source(tasks, gy, parts):
    rows = gy.shape[0]
    for task in prange(tasks):
        part = parts[task]
        for i in range(rows * task // tasks, rows * (task + 1) // tasks):
            row = gy[i]
            for k in range(part.size):
                part[k] += row[k]


_alike = Kernel(_alike_source)
_forward = Kernel(_forward_source)
_scale = Kernel(_scale_source)
_fold_rows = Kernel(_fold_rows_source)
_fold_columns = Kernel(_fold_columns_source)
