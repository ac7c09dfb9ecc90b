"""Matrix products in register tiles.

    dot       output, few rows: both matrices lie along the sum, and are read as they lie, in
              strips of it that stay in the first cache
    stream    grad_input, few rows: the weight lies across the sum, and is read once, as it lies
    packed    the rest: columns of the second matrix, packed into panels that stay in the second
              cache, then tile after tile of rows

A task has a block of the result, and sums run in an order that depends on neither tiles nor tasks.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.arrays import Array
from kernels.compiled import Kernel
from kernels.linear.operator import Call, Gradients, LinearAlgorithm
from kernels.linear.tiles import NARROW, dot_shapes, dot_tile, outer_shapes, outer_tile, pack_rows
from kernels.simd import host_tile
from kernels.tiles import copy_numbers, transpose_block

DOT_ROWS = 64
"""Up to so many rows, packing costs more than dot tiles' sums of lanes."""

STREAM_ROWS = 8

STRIP = 4096
"""Bytes of a row that a dot tile sums at once: 8 rows and 3 columns of it fill the first cache."""

DOT_COLUMNS = 48
"""Columns of a task at most."""

DOT_TASKS, DOT_LEAST = 8, 12
"""How many tasks there are at least, unless they would have fewer columns than that."""

STREAM_VECTORS = 16
"""Columns of a task at least, in vectors: whole tiles."""

PACKED_DEPTH = 512
"""How far a task sums before it packs again: less would read and write the sums more often."""

PACKED_BYTES = 1 << 18
"""Of a task's panels: a part of the second cache."""

PACKED_ROWS = 140
"""Rows of a task at most: whole tiles, and enough of them to outweigh the packing."""

PACKED_TASKS = 8
"""At least, where there are so many panels."""

GRAIN = 1 << 18
"""Products from which on a second thread is worth its start."""


class Direct(LinearAlgorithm):
    """linear on one thread or over `prange`."""

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, O]."""
        rows, columns = output.shape
        depth = call.input.shape[1]
        x, w, y = call.input.reshape(-1), call.weight.reshape(-1), output.reshape(-1)
        bias = np.zeros(columns, y.dtype) if call.bias is None else call.bias
        if rows > DOT_ROWS:
            self._packed(threads, x, (depth, 1), w, (1, depth), y, bias, (rows, columns, depth))
            return
        tile = host_tile()
        shapes = dot_shapes(tile)
        tasks = max(min(DOT_TASKS, -(-columns // DOT_LEAST)), -(-columns // DOT_COLUMNS))
        _dot(
            self._worth(rows * columns * depth), threads, tasks, tile, shapes,
            STRIP // y.itemsize, x, w, bias, y, rows, columns, depth,
        )  # fmt: skip

    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> None:
        """Fill the gradients from the output's [N, O]."""
        n, o = grad_output.shape
        i = call.input.shape[1]
        gy, x, w = grad_output.reshape(-1), call.input.reshape(-1), call.weight.reshape(-1)
        if grads.input is not None:
            gx = grads.input.reshape(-1)
            if n <= STREAM_ROWS:
                self._stream(threads, gy, w, gx, (n, i, o))
            else:
                self._packed(threads, gy, (o, 1), w, (i, 1), gx, None, (n, i, o))
        if grads.weight is not None:
            gw = grads.weight.reshape(-1)
            self._packed(threads, gy, (1, o), x, (i, 1), gw, None, (o, i, n))
        if grads.bias is not None:
            grad_output.sum(0, out=grads.bias)

    def _stream(
        self, threads: int | None, a: Array, b: Array, y: Array, sizes: tuple[int, int, int]
    ) -> None:
        tile = host_tile()
        lanes = tile.lanes(y.dtype)
        threaded = self._worth(sizes[0] * sizes[1] * sizes[2])
        # One thread reads whole rows of the matrix, one after another.
        tasks = min(64, -(-sizes[1] // (STREAM_VECTORS * lanes))) if threaded else 1
        width = -(-sizes[1] // tasks // (STREAM_VECTORS * lanes)) * STREAM_VECTORS * lanes
        shapes = outer_shapes(tile)
        _stream(threaded, threads, tasks, tile, shapes, lanes, width, a, b, y, *sizes)

    def _packed(
        self,
        threads: int | None,
        a: Array,
        a_steps: tuple[int, int],
        b: Array,
        b_steps: tuple[int, int],
        y: Array,
        bias: Array | None,
        sizes: tuple[int, int, int],
    ) -> None:
        rows, columns, depth = sizes
        tile = host_tile()
        shapes = outer_shapes(tile)
        panel = tile.panel(y.dtype)
        group = PACKED_BYTES // y.itemsize // min(depth, PACKED_DEPTH) // panel * panel
        parts = -(-rows // PACKED_ROWS)
        # Columns too few for the groups' size are shared out, so that there are tasks enough.
        share = -(-columns // panel * parts // PACKED_TASKS) * panel
        group = max(min(group, share), panel)
        part = -(-rows // parts // shapes[0, 0]) * shapes[0, 0]
        tasks = -(-columns // group) * -(-rows // part)
        threaded = self._worth(rows * columns * depth)
        steps = (*a_steps, *b_steps)
        bias = np.empty(0, y.dtype) if bias is None else bias
        _packed(
            threaded, threads, tasks, tile, shapes, panel, group, part, a, b, y, bias, *steps,
            *sizes,
        )  # fmt: skip

    def _worth(self, products: int) -> bool:
        return self.threaded and products >= GRAIN


def _dot_source(tasks, tile, shapes, strip, x, w, bias, y, rows, columns, depth):
    for task in prange(tasks):
        tiles = -(-columns // shapes[0, 1])
        begin, end = (
            tiles * task // tasks * shapes[0, 1],
            tiles * (task + 1) // tasks * shapes[0, 1],
        )
        end = min(end, columns)
        _dot_block(tile, shapes, strip, x, w, bias, y, rows, columns, depth, begin, end)


def _stream_source(tasks, tile, shapes, lanes, width, a, b, y, rows, columns, depth):
    for task in prange(tasks):
        _stream_block(task, tile, shapes, lanes, width, a, b, y, rows, columns, depth)


def _packed_source(
    tasks, tile, shapes, panel, group, part, a, b, y, bias, a_row, a_step, b_row, b_step, rows,
    columns, depth,
):  # fmt: skip
    for task in prange(tasks):
        _packed_block(
            task, tile, shapes, panel, group, part, a, b, y, bias, a_row, a_step, b_row, b_step,
            rows, columns, depth,
        )  # fmt: skip


_dot = Kernel(_dot_source)
_stream = Kernel(_stream_source)
_packed = Kernel(_packed_source)


@njit(cache=True, nogil=True)
def _dot_block(tile, shapes, strip, x, w, bias, y, rows, columns, depth, begin, end):
    for r in range(rows):
        y[r * columns + begin : r * columns + end] = bias[begin:end]
    for first in range(0, depth, strip):
        length = min(strip, depth - first)
        r = 0
        while r < rows:
            shape = 0
            while shapes[shape, 0] > rows - r:
                shape += 1
            c = begin
            while c < end:
                whole = c + shapes[shape, 1] <= end
                dot_tile(
                    tile, 2 * shape + (0 if whole else 1),
                    x, r * depth + first, depth, w, c * depth + first, depth, length,
                    y, r * columns + c, columns,
                )  # fmt: skip
                c += shapes[shape, 1] if whole else 1
            r += shapes[shape, 0]


@njit(cache=True, nogil=True)
def _stream_block(task, tile, shapes, lanes, width, a, b, y, rows, columns, depth):
    begin, end = task * width, min((task + 1) * width, columns)
    # How far to sum before the next tile: the fewer rows, the sooner, so that reading runs along b.
    strip = 8 * min(rows, 8)
    for first in range(0, depth, strip):
        length = min(strip, depth - first)
        r = 0
        while r < rows:
            shape = NARROW
            while shapes[shape, 0] > rows - r:
                shape += 1
            wide = shapes[shape, 1] * lanes
            for c in range(begin, end, wide):
                outer_tile(
                    tile, shape, a, r * depth + first, depth, 1,
                    b, first * columns + c, columns, strip * columns, length, first == 0,
                    y, r * columns + c, columns, min(wide, end - c),
                )  # fmt: skip
            r += shapes[shape, 0]


@njit(cache=True, nogil=True)
def _packed_block(
    task, tile, shapes, panel, group, part, a, b, y, bias, a_row, a_step, b_row, b_step, rows,
    columns, depth,
):  # fmt: skip
    groups = -(-columns // group)
    begin, top = task % groups * group, task // groups * part
    end, bottom = min(begin + group, columns), min(top + part, rows)
    panels = -(-(end - begin) // panel)
    deepest = min(depth, PACKED_DEPTH)
    room = np.empty(panels * panel * deepest + 64, b.dtype)
    aligned = -room.ctypes.data % 64 // room.itemsize
    packed = room[aligned : aligned + panels * panel * deepest]
    if len(bias):
        for r in range(top, bottom):
            copy_numbers(bias, begin, y, r * columns + begin, end - begin)
    for first in range(0, depth, PACKED_DEPTH):
        length = min(PACKED_DEPTH, depth - first)
        if b_step == 1:
            pack_rows(tile, b, first * b_row + begin, b_row, length, packed, end - begin)
        else:
            for c in range(panels):
                column = begin + c * panel
                source, count = column * b_step + first, min(panel, end - column)
                target = packed[c * panel * length : (c + 1) * panel * length]
                _pack_turned(tile, b[source:], b_step, count, length, panel, target)
        r = top
        while r < bottom:
            left = bottom - r
            # Tiles of few rows would wait for their own sums: 16 rows are two tiles of 8.
            shape = 1 if left <= 4 * shapes[1, 0] and left % shapes[1, 0] == 0 else 0
            while shapes[shape, 0] > left:
                shape += 1
            for c in range(panels):
                column = begin + c * panel
                outer_tile(
                    tile, shape, a, r * a_row + first * a_step, a_row, a_step,
                    packed, c * panel * length, panel, 0, length, first == 0 and len(bias) == 0,
                    y, r * columns + column, columns, min(panel, end - column),
                )  # fmt: skip
            r += shapes[shape, 0]


@njit(cache=True, nogil=True)
def _pack_turned(tile, b, step, count, length, panel, packed):
    """Columns of `length` numbers, `step` apart, into rows of `panel`, zeros behind them."""
    lanes = panel // 2
    places = np.arange(lanes) * panel
    turned = length // lanes * lanes if count == panel else 0
    for p in range(0, turned, lanes):
        for k in range(0, panel, lanes):
            transpose_block(tile, b, k * step + p, step, packed, p * panel + k, places, 0)
    for p in range(turned, length):
        for k in range(count):
            packed[p * panel + k] = b[k * step + p]
        for k in range(count, panel):
            packed[p * panel + k] = 0
