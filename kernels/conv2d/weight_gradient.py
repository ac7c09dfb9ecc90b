"""The gradients of weight and bias: sums over pixels.

    channels  tiles of filters x channels of one tap, over the pixels where that tap is inside
    points    few channels: tiles of a filter's numbers x filters, over a padded copy

Where weights are few and pixels many, the pixels are cut into chunks that sum apart. Chunks depend
on shapes alone and are added in their order: threads change no bit.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.compiled import Kernel
from kernels.conv2d.operator import Call
from kernels.conv2d.plans import TASKS
from kernels.simd import Tile
from kernels.tiles import correlate_tile

PIXELS = 448
"""About how many pixels a tile sums before the next takes its turn: they stay in cache."""


class Products(NamedTuple):
    """Every tile of a weight's gradient: points of `a` times columns of `b`; read-only."""

    units: Array
    """[tiles, 8]: shape, kernel row, pixels of a row, begin in a, point, begin in b, in the sums,
    columns."""
    points: Array
    """Where the points lie, behind a pixel."""
    a_rows: Array
    """[kernel rows x rows of pixels]: where they begin in `a`."""
    b_rows: Array
    bounds: Array
    """[kernel rows, blocks + 1]: the first of its rows that a block sums."""
    blocks: Array
    """[chunks + 1]: the first block of each chunk."""
    parts: int
    """How many tasks share the tiles of a chunk."""
    a_step: int
    """From one pixel of a row to the next."""
    b_step: int
    point_step: int
    """In the sums, from one point to the next."""


def weight_gradient(
    tile: Tile, call: Call, x: Array, gy: Array, gw: Array, *, threaded: bool, threads: int | None
) -> None:
    """Fill contiguous `gw` [K, R, S, C / groups] from x [N, H, W, C] and gy [N, P, Q, K]."""
    filters, height, width, depth = gw.shape
    form = (call.stride, call.dilation, call.groups)
    if call.groups == 1 and depth < tile.lanes(x.dtype):
        padded = _padded(call, x)
        products = _points(tile, x.itemsize, padded.shape, gy.shape, (height, width), *form)
        sums = np.empty((height, width, depth, filters), gw.dtype)
        _run(products, tile, padded, gy, sums, threaded, threads)
        gw[...] = sums.transpose(3, 0, 1, 2)
    else:
        products = _channels(
            tile, x.itemsize, x.shape, gy.shape, (height, width), *form, call.before
        )
        _run(products, tile, gy, x, gw, threaded, threads)


def bias_gradient(gy: Array, gb: Array, *, threaded: bool, threads: int | None) -> None:
    """Fill `gb` [K] with the sums of contiguous gy [N, P, Q, K]."""
    pixels = gy.size // len(gb)
    stripes = max(1, min(TASKS, gy.size >> 14))
    sums = np.zeros((stripes, len(gb)))
    _BIAS(threaded, threads, stripes, gy.reshape(pixels, -1), sums)
    gb[...] = sums.sum(0)


def _run(
    products: Products, tile: Tile, a: Array, b: Array, sums: Array, threaded: bool,
    threads: int | None,
) -> None:  # fmt: skip
    chunks = len(products.blocks) - 1
    apart = sums.reshape(1, -1) if chunks == 1 else np.empty((chunks, sums.size), sums.dtype)
    _KERNEL(
        threaded, threads, chunks * products.parts, tile, a.reshape(-1), b.reshape(-1),
        apart.reshape(-1), sums.reshape(-1), *products,
    )  # fmt: skip


def _kernel(
    tasks, tile, a, b, apart, sums,
    units, points, a_rows, b_rows, bounds, blocks, parts, a_step, b_step, point_step,
):  # fmt: skip
    size = len(sums)
    chunks = len(blocks) - 1
    for i in prange(TASKS):
        apart[len(apart) * i // TASKS : len(apart) * (i + 1) // TASKS] = 0
    for task in prange(tasks):
        chunk, part = task // parts, task % parts
        for block in range(blocks[chunk], blocks[chunk + 1]):
            for i in range(len(units) * part // parts, len(units) * (part + 1) // parts):
                shape, r, length, a_at, point, b_at, at, columns = units[i]
                correlate_tile(
                    tile, shape, a, a_rows, a_at, a_step, points, point, b, b_rows, b_at, b_step,
                    bounds[r, block], bounds[r, block + 1], length,
                    apart, chunk * size + at, point_step, columns,
                )  # fmt: skip
    if chunks > 1:
        for i in prange(TASKS):
            for j in range(size * i // TASKS, size * (i + 1) // TASKS):
                total = apart[j]
                for chunk in range(1, chunks):
                    total += apart[chunk * size + j]
                sums[j] = total


def _bias_kernel(tasks, gy, sums):
    for task in prange(tasks):
        for m in range(len(gy) * task // tasks, len(gy) * (task + 1) // tasks):
            for k in range(gy.shape[1]):
                sums[task, k] += gy[m, k]


_KERNEL = Kernel(_kernel, chunk=1)  # whoever is free takes the next task
_BIAS = Kernel(_bias_kernel)


@functools.lru_cache(maxsize=256)
def _channels(
    tile: Tile,
    itemsize: int,
    large: tuple[int, ...],
    small: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    before: tuple[int, int],
) -> Products:
    n, height, width, channels = large
    _, p, q, filters = small
    depth, taps = channels // groups, kernel[0] * kernel[1]
    pixel_rows = np.arange(n * p)
    image, row = pixel_rows // p, pixel_rows % p
    a_rows, b_rows, valid = [], [], []
    for r in range(kernel[0]):
        read = row * stride[0] - before[0] + r * dilation[0]
        inside = (read >= 0) & (read < height)
        valid.append(inside)
        a_rows.append((pixel_rows * q * filters)[inside])
        b_rows.append(((image * height + read) * width * channels)[inside])
    tiles = partition(filters // groups, tile.points)
    units = []
    for r, s, group in np.ndindex(*kernel, groups):
        first = s * dilation[1] - before[1]
        begin = max(0, -(first // stride[1]))
        end = max(begin, min(q, (width - 1 - first) // stride[1] + 1))
        for column, columns, wide in _panels(tile, itemsize, depth):
            for point, rank in tiles:
                k = group * (filters // groups) + point
                units.append((
                    rank + wide, r, end - begin, begin * filters + k, 0,
                    (first + begin * stride[1]) * channels + group * depth + column,
                    (k * taps + r * kernel[1] + s) * depth + column, columns,
                ))  # fmt: skip
    steps = (filters, stride[1] * channels, taps * depth)
    weights = filters * taps * depth
    points = np.arange(tile.points[0])
    return _products(units, points, a_rows, b_rows, valid, q, weights, channels + filters, steps)


@functools.lru_cache(maxsize=256)
def _points(
    tile: Tile,
    itemsize: int,
    large: tuple[int, ...],
    small: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,  # noqa: ARG001 - there is one
) -> Products:
    _, height, width, channels = large
    n, p, q, filters = small
    pixel_rows = np.arange(n * p)
    image, row = pixel_rows // p, pixel_rows % p
    a_rows = [(image * height + row * stride[0]) * width * channels]
    b_rows = [pixel_rows * q * filters]
    valid = [np.ones(len(pixel_rows), bool)]
    r, t, c = np.ogrid[: kernel[0], : kernel[1], :channels]
    points = ((r * dilation[0] * width + t * dilation[1]) * channels + c).ravel()
    units = [
        (rank + wide, 0, q, 0, point, column, point * filters + column, columns)
        for column, columns, wide in _panels(tile, itemsize, filters)
        for point, rank in partition(len(points), tile.points)
    ]
    steps = (stride[1] * channels, filters, filters)
    weights = filters * len(points)
    return _products(units, points, a_rows, b_rows, valid, q, weights, channels + filters, steps)


def _products(
    units: list[tuple[int, ...]],
    points: Array,
    a_rows: list[Array],
    b_rows: list[Array],
    valid: list[Array],
    length: int,
    weights: int,
    pixel: int,
    steps: tuple[int, int, int],
) -> Products:
    """Cut the rows of pixels into blocks, those into chunks, and the tiles into parts."""
    rows = len(valid[0])
    some = max(1, PIXELS // length)
    edges = np.minimum(np.arange(0, rows + some, some), rows)
    count = len(edges) - 1
    # Each part reads its chunk's pixels anew; each chunk adds a set of weights to write and read.
    chunks = max(1, min(TASKS, count, rows * length * pixel // weights))
    starts = np.cumsum([0, *(len(each) for each in a_rows)])
    bounds = [
        starts[r] + np.concatenate([[0], np.cumsum(each)])[edges] for r, each in enumerate(valid)
    ]
    return Products(
        units=np.array(units, np.int64),
        points=points.astype(np.int64),
        a_rows=np.concatenate(a_rows).astype(np.int64),
        b_rows=np.concatenate(b_rows).astype(np.int64),
        bounds=np.array(bounds, np.int64),
        blocks=np.array([count * i // chunks for i in range(chunks + 1)], np.int64),
        parts=min(len(units), -(-TASKS // chunks)),
        a_step=steps[0],
        b_step=steps[1],
        point_step=steps[2],
    )


def _panels(tile: Tile, itemsize: int, columns: int) -> list[tuple[int, int, int]]:
    """(first column, columns, first shape) of each panel."""
    lanes = tile.width // itemsize
    panel = lanes * tile.vectors
    panels = []
    for first in range(0, columns, panel):
        some = min(panel, columns - first)
        panels.append((first, some, 0 if some <= lanes else len(tile.points)))
    return panels


def partition(count: int, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Tiles that cover `count` points once, and most cheaply: (first point, rank in `sizes`).

    A tile costs its points, but not less than the few that hide the latency of a sum.
    """
    least = sizes[0] // 2
    best = [(0.0, 0)]
    for some in range(1, count + 1):
        best.append(
            min(
                (best[some - size][0] + max(size, least) + 0.5, rank)
                for rank, size in enumerate(sizes)
                if size <= some
            )
        )
    tiles = []
    while count:
        rank = best[count][1]
        count -= sizes[rank]
        tiles.append((count, rank))
    return tiles[::-1]


def _padded(call: Call, x: Array) -> Array:
    """`x` with its zeros; itself where there are none."""
    above, left = call.before
    below, right = call.after
    if not (above or left or below or right):
        return x
    n, height, width, channels = x.shape
    padded = np.zeros((n, above + height + below, left + width + right, channels), x.dtype)
    padded[:, above : above + height, left : left + width] = x
    return padded
