"""Window after window, in vectors along the depth of channels-last memory.

Gradients: a row of windows is spread over the columns of the input first, each divided once, and
then lies over every row of the input that it comes from. Contiguous memory is taken for images that
are one deep, where vectors serve long rows alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.arrays import Array
from kernels.avg_pool2d.operator import AveragingAlgorithm, Call
from kernels.compiled import Kernel
from kernels.lanes import (
    fill,
    lanes_of,
    load,
    over,
    plus,
    store,
    total_of,
)
from kernels.pooling import flat, planes, tasks_of


class Direct(AveragingAlgorithm):
    """Means over windows, on one thread or over `prange`."""

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, C, P, Q]."""
        x, y = flat(call.input, call.channels_last), flat(output, call.channels_last)
        images, depth = planes(call.shape, call.channels_last)
        rows, columns = call.grid.rows, call.grid.columns
        lines, lanes = images * rows.outputs, lanes_of(x.dtype)
        tasks = tasks_of(lines, x.size, depth, lanes)
        tables = (rows.windows, columns.windows, (rows.size, columns.size))
        _forward(self.threaded, threads, tasks, lines, x, y, *tables, depth, lanes)

    def backward(
        self, call: Call, grad_output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input` [N, C, H, W]."""
        gx, gy = flat(grad_input, call.channels_last), flat(grad_output, call.channels_last)
        images, depth = planes(call.shape, call.channels_last)
        rows, columns = call.grid.rows, call.grid.columns
        lines, lanes = images * rows.size, lanes_of(gx.dtype)
        tasks = tasks_of(lines, gx.size, depth, lanes)
        tables = (rows.windows, columns.windows, rows.covering, (rows.size, columns.size))
        _backward(self.threaded, threads, tasks, lines, gx, gy, *tables, depth, lanes)


def _forward_source(tasks, lines, x, y, rows, columns, size, depth, lanes):
    height, width = size
    outputs = rows.shape[1]
    whole = depth // (4 * lanes) * (4 * lanes)
    for task in prange(tasks):
        for line in range(lines * task // tasks, lines * (task + 1) // tasks):
            n, p = line // outputs, line % outputs
            for q in range(columns.shape[1]):
                corner = ((n * height + rows[0, p]) * width + columns[0, q]) * depth
                window = (corner, rows[1, p], columns[1, q], width, rows[2, p] * columns[2, q])
                out = line * columns.shape[1] + q
                if depth == 1:
                    y[out] = _plain_mean(x, window, lanes)
                    continue
                if whole:
                    _four_means(x, window, whole, depth, lanes, y, out * depth)
                if whole < depth:
                    _mean(x, window, whole, depth, lanes, y, out * depth)


@njit(cache=True, nogil=True)
def _mean(x, window, begin, depth, lanes, y, out):
    """Of the channels from `begin` on."""
    corner, height, width, down, divisor = window
    for k in range(begin, depth, lanes):
        total = fill(x, 0.0)
        for r in range(height):
            for s in range(width):
                total = plus(total, load(x, corner + (r * down + s) * depth + k, depth - k))
        store(y, out + k, depth - k, over(total, fill(x, divisor)))


@njit(cache=True, nogil=True)
def _four_means(x, window, end, depth, lanes, y, out):
    """Of the channels below `end`, four vectors at a time: no sum waits for the one before."""
    corner, height, width, down, divisor = window
    for k in range(0, end, 4 * lanes):
        a = b = c = d = fill(x, 0.0)
        for r in range(height):
            for s in range(width):
                at = corner + (r * down + s) * depth + k
                a, b = plus(a, load(x, at, lanes)), plus(b, load(x, at + lanes, lanes))
                c = plus(c, load(x, at + 2 * lanes, lanes))
                d = plus(d, load(x, at + 3 * lanes, lanes))
        to, share = out + k, fill(x, divisor)
        store(y, to, lanes, over(a, share))
        store(y, to + lanes, lanes, over(b, share))
        store(y, to + 2 * lanes, lanes, over(c, share))
        store(y, to + 3 * lanes, lanes, over(d, share))


@njit(cache=True, nogil=True)
def _plain_mean(x, window, lanes):
    """Of contiguous memory, where a row of the window is a vector if it is long enough."""
    corner, height, width, down, divisor = window
    if width == down:
        height, width = 1, height * width
    total = x.dtype.type(0)
    if width < lanes:
        for r in range(height):
            for s in range(width):
                total += x[corner + r * down + s]
    else:
        sums = fill(x, 0.0)
        for r in range(height):
            for s in range(0, width, lanes):
                sums = plus(sums, load(x, corner + r * down + s, width - s))
        total = total_of(sums)
    return total / x.dtype.type(divisor)


def _backward_source(tasks, lines, gx, gy, rows, columns, row_covers, size, depth, lanes):
    height, width = size
    outputs = rows.shape[1]
    length = width * depth
    for task in prange(tasks):
        wide = np.empty(length, gx.dtype)
        held = -1
        for line in range(lines * task // tasks, lines * (task + 1) // tasks):
            n, i = line // height, line % height
            if row_covers[0, i] == row_covers[1, i]:
                for k in range(0, length, lanes):
                    store(gx, line * length + k, length - k, fill(gx, 0.0))
            for p in range(row_covers[0, i], row_covers[1, i]):
                if held != n * outputs + p:
                    held = n * outputs + p
                    _spread(gy, held, columns, rows[2, p], depth, lanes, wide)
                for k in range(0, length, lanes):
                    grad = load(wide, k, length - k)
                    if p > row_covers[0, i]:
                        grad = plus(load(gx, line * length + k, length - k), grad)
                    store(gx, line * length + k, length - k, grad)


@njit(cache=True, nogil=True)
def _spread(gy, line, columns, share, depth, lanes, wide):
    """wide[j] = the sum over the windows q that hold column j of gy[q], divided."""
    wide[:] = 0
    for q in range(columns.shape[1]):
        first, end = columns[0, q], columns[0, q] + columns[1, q]
        out = (line * columns.shape[1] + q) * depth
        divisor = share * columns[2, q]
        if depth == 1:
            grad = gy[out] / gy.dtype.type(divisor)
            for j in range(first, end):
                wide[j] += grad
            continue
        for k in range(0, depth, lanes):
            grads = over(load(gy, out + k, depth - k), fill(gy, divisor))
            for j in range(first, end):
                sums = plus(load(wide, j * depth + k, depth - k), grads)
                store(wide, j * depth + k, depth - k, sums)


_forward = Kernel(_forward_source)
_backward = Kernel(_backward_source)
