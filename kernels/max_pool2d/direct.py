"""Window after window, in vectors along the depth of channels-last memory.

| function   | what it does                                                               |
|------------|----------------------------------------------------------------------------|
| `_values`  | the greatest number of a window                                            |
| `_indexed` | the same and its index                                                     |
| `_gather`  | gradient, deep images: each input asks the windows over it; no two writers |
| `_scatter` | gradient, else: each window adds where its index points                    |

Contiguous memory is taken for images that are one deep: correct, at the speed of plain numbers.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.arrays import Array
from kernels.compiled import Kernel
from kernels.lanes import (
    choose,
    equals,
    exceeds,
    fill,
    fill_integers,
    how_many,
    lanes_of,
    load,
    load_integers,
    plus,
    store,
)
from kernels.max_pool2d.operator import Call, MaxPool2dAlgorithm
from kernels.pooling import flat, planes, tasks_of

SHALLOW = 8
"""Below this depth a vector along it is not worth its while."""
CROWDED = 16
"""From so many windows over each input on, asking them all costs more than going by the indices."""


class Direct(MaxPool2dAlgorithm):
    """max_pool2d on one thread, or over `prange`."""

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded

    def forward(
        self, call: Call, output: Array, indices: Array | None, threads: int | None
    ) -> None:
        """Fill `output` and `indices` [N, C, P, Q]."""
        x, y = flat(call.input, call.channels_last), flat(output, call.channels_last)
        at = np.empty(0, np.int64) if indices is None else flat(indices, call.channels_last)
        images, depth = planes(call.shape, call.channels_last)
        lines, lanes = images * call.shape[2], lanes_of(x.dtype)
        tasks = tasks_of(lines, x.size, depth, lanes)
        _forward(self.threaded, threads, tasks, lines, x, y, at, *_windows(call), lanes)

    def backward(
        self, call: Call, grad_output: Array, indices: Array, grad_input: Array, threads: int | None
    ) -> int:
        """Fill `grad_input` [N, C, H, W]; returns how many indices point into their windows."""
        gx, gy, at = (
            flat(array, call.channels_last) for array in (grad_input, grad_output, indices)
        )
        images, depth = planes(call.shape, call.channels_last)
        window, rows, columns = call.window, call.grid.rows, call.grid.columns
        crowd = window.kernel[0] * window.kernel[1] / (window.stride[0] * window.stride[1])
        scatter = depth < SHALLOW or crowd > CROWDED
        lines, lanes = images if scatter else images * rows.size, lanes_of(gx.dtype)
        tasks = tasks_of(lines, gx.size, depth, lanes)
        found = np.zeros(tasks, np.int64)
        arguments = (lines, gx, gy, at, found, *_windows(call))
        if scatter:
            _scatter(self.threaded, threads, tasks, *arguments)
        else:
            covers = (rows.covering, columns.covering, lanes)
            _gather(self.threaded, threads, tasks, *arguments, *covers)
        return int(found.sum())


def _windows(call: Call) -> tuple[object, ...]:
    rows, columns = call.grid.rows, call.grid.columns
    steps = (rows.dilation, columns.dilation)
    depth = planes(call.shape, call.channels_last)[1]
    return rows.windows, columns.windows, steps, (rows.size, columns.size), depth


def _forward_source(tasks, lines, x, y, at, rows, columns, steps, size, depth, lanes):
    height, width = size
    outputs = rows.shape[1]
    for task in prange(tasks):
        for line in range(lines * task // tasks, lines * (task + 1) // tasks):
            n, p = line // outputs, line % outputs
            for q in range(columns.shape[1]):
                index = rows[0, p] * width + columns[0, q]
                window = (
                    (n * height * width + index) * depth,
                    rows[1, p],
                    columns[1, q],
                    steps[0] * width,
                    steps[1],
                )
                out = (line * columns.shape[1] + q) * depth
                if at.size:
                    _indexed(x, window, index, depth, lanes, y, at, out)
                else:
                    _values(x, window, depth, lanes, y, out)


@njit(cache=True, nogil=True)
def _values(x, window, depth, lanes, y, out):
    corner, height, width, down, right = window
    for k in range(0, depth, lanes):
        best = fill(x, -np.inf)
        for r in range(height):
            for s in range(width):
                value = load(x, corner + (r * down + s * right) * depth + k, depth - k)
                best = choose(exceeds(value, best), value, best)
        store(y, out + k, depth - k, best)


@njit(cache=True, nogil=True)
def _indexed(x, window, first, depth, lanes, y, at, out):
    corner, height, width, down, right = window
    for k in range(0, depth, lanes):
        best = fill(x, -np.inf)
        index = fill_integers(first, best)
        for r in range(height):
            for s in range(width):
                place = r * down + s * right
                value = load(x, corner + place * depth + k, depth - k)
                better = exceeds(value, best)
                best = choose(better, value, best)
                index = choose(better, fill_integers(first + place, best), index)
        store(y, out + k, depth - k, best)
        store(at, out + k, depth - k, index)


def _gather_source(
    tasks,
    lines,
    gx,
    gy,
    at,
    found,
    rows,
    columns,
    steps,
    size,
    depth,
    row_covers,
    column_covers,
    lanes,
):
    height, width = size
    outputs = (rows.shape[1], columns.shape[1])
    for task in prange(tasks):
        own = 0
        for line in range(lines * task // tasks, lines * (task + 1) // tasks):
            n, i = line // height, line % height
            for j in range(width):
                for k in range(0, depth, lanes):
                    grad = fill(gx, 0.0)
                    here = fill_integers(i * width + j, grad)
                    for p in range(row_covers[0, i], row_covers[1, i]):
                        if steps[0] > 1 and (i - rows[0, p]) % steps[0]:
                            continue
                        for q in range(column_covers[0, j], column_covers[1, j]):
                            if steps[1] > 1 and (j - columns[0, q]) % steps[1]:
                                continue
                            out = ((n * outputs[0] + p) * outputs[1] + q) * depth + k
                            value = load(gy, out, depth - k)
                            mine = equals(load_integers(at, out, depth - k, grad), here)
                            grad = plus(grad, choose(mine, value, fill(gx, 0.0)))
                            own += how_many(mine)
                    store(gx, (line * width + j) * depth + k, depth - k, grad)
        found[task] = own


def _scatter_source(tasks, images, gx, gy, at, found, rows, columns, steps, size, depth):
    for task in prange(tasks):
        first, last = images * task // tasks, images * (task + 1) // tasks
        found[task] = _add_by_index(first, last, gx, gy, at, rows, columns, steps, size, depth)


@njit(cache=True, nogil=True, error_model="numpy")
def _add_by_index(begin, end, gx, gy, at, rows, columns, steps, size, depth):
    """Of some images; returns how many indices point into their windows."""
    width, plane = size[1], size[0] * size[1]
    # A product instead of a division; half an index more, and rounding leads to no other row.
    share = 1 / width
    dilated = steps[0] > 1 or steps[1] > 1
    own, outputs = 0, columns.shape[1]
    for n in range(begin, end):
        image = n * plane * depth
        gx[image : image + plane * depth] = 0
        for p in range(rows.shape[1]):
            top, tall = rows[0, p], (rows[1, p] - 1) * steps[0]
            line = (n * rows.shape[1] + p) * outputs * depth
            for k in range(depth):
                for q in range(outputs):
                    index = at[line + q * depth + k]
                    if not 0 <= index < plane:
                        continue
                    row = int((index + 0.5) * share)
                    down, right = row - top, index - row * width - columns[0, q]
                    wide = (columns[1, q] - 1) * steps[1]
                    mine = (down >= 0) & (down <= tall) & (right >= 0) & (right <= wide)
                    if mine and dilated:
                        mine = down % steps[0] == 0 and right % steps[1] == 0
                    if mine:
                        gx[image + index * depth + k] += gy[line + q * depth + k]
                        own += 1
    return own


_forward = Kernel(_forward_source)
_gather = Kernel(_gather_source)
_scatter = Kernel(_scatter_source)
