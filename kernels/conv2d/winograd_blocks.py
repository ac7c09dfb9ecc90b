"""Winograd's convolution block by block, for Numba: what is transformed when, and by whom.

The outputs are cut into tiles of 2 x 2, across all images; `size` tiles are a block, and so many
filters as the register tile spans are a panel. A block's pixels become `PLANES` matrices V [tile,
channel], a panel's weights as many matrices U [channel, filter]; their products M [tile, filter]
are turned into outputs while a cache still holds them.

    many tiles    all panels of U first; then each task takes a block, and makes its V itself
    many filters  all blocks of V first; then each task takes a panel, and makes its U itself

so that the larger of both never leaves a core's cache. Tasks are dealt out to `workers`, each with
scratch memory of its own. No sum depends on the blocks or the workers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from kernels.arrays import Array
from kernels.conv2d.winograd_transforms import (
    PLANES,
    multiply_columns,
    multiply_rows,
    transform_gradient,
    transform_input,
    transform_output,
    transform_products,
    transform_weights,
)
from kernels.simd import Tile
from kernels.tiles import transpose_block

PIECE = 8
"""How many tiles of a block one task transforms where blocks are few."""
STRIP = 2
"""How many vectors of channels are read at a time: a line of the cache and the one beside it."""


class Shape(NamedTuple):
    """One convolution's numbers; channels and filters are counted in whole vectors where padded."""

    lanes: int
    panel: int
    rows: int
    """The most tiles that are multiplied at a time."""
    height: int
    width: int
    p: int
    q: int
    top: int
    left: int
    down: int
    across: int
    tiles: int
    size: int
    blocks: int
    channels: int
    filters: int
    x_channels: int
    y_channels: int
    panels: int
    v_plane: int
    depth: int
    u_plane: int
    du_plane: int
    m_plane: int


def make_shape(
    tile: Tile, images: Array, output: Array, before: tuple[int, int], block_bytes: int, depth: int
) -> Shape:
    """The numbers for [N, C, H, W] and [N, K, P, Q], with V's blocks of about `block_bytes`."""
    lanes, panel = tile.lanes(images.dtype), tile.panel(images.dtype)
    n, channels, height, width = images.shape
    _, filters, p, q = output.shape
    x_channels, y_channels = _up(channels, lanes) * lanes, _up(filters, lanes) * lanes
    down, across = _up(p, 2), _up(q, 2)
    tiles = n * down * across
    by_panels = tiles < filters
    most = max(tile.points[0], 0 if by_panels else block_bytes // (PLANES * x_channels * images.itemsize))
    depth = min(x_channels, depth) if by_panels else x_channels
    blocks = _up(tiles, most)
    size = _up(tiles, blocks)
    # Planes that are apart by a power of two would fall on the same few lines of a cache.
    apart = 64 // images.itemsize
    return Shape(
        lanes=lanes,
        panel=panel,
        rows=tile.points[0],
        height=height,
        width=width,
        p=p,
        q=q,
        top=before[0],
        left=before[1],
        down=down,
        across=across,
        tiles=tiles,
        size=size,
        blocks=_up(tiles, size),
        channels=channels,
        filters=filters,
        x_channels=x_channels,
        y_channels=y_channels,
        panels=_up(filters, panel),
        v_plane=x_channels * size + apart,
        depth=depth,
        u_plane=depth * panel + apart,
        du_plane=x_channels * panel + apart,
        m_plane=panel * size + apart,
    )


class Layout(NamedTuple):
    """Where the weights of a block of lanes x lanes filters and channels lie: as 9 blocks b of rows

        start of block b = k k_step + c c_step + b block_step

    whose next filter is `k_step` further, and whose lanes columns are channels of one tap where
    memory is channels-last, and (channel, tap) where it is contiguous.
    """

    k_step: int
    c_step: int
    block_step: int
    g_channel: int
    """The columns' places when all blocks are transposed one behind the other: a channel's step."""
    g_tap: int
    """And a tap's."""


def make_layout(weight: Array, lanes: int) -> tuple[Array, Layout, Array]:
    """[K, C, 3, 3] -> its numbers in the order of memory (contiguous or channels-last), and where.

    The last result's rows are what `transpose_block` takes as places: for a block's columns as
    [tap, channel, filter], for lanes rows without gaps, and for rows `k_step` apart.
    """
    channels = weight.shape[1]
    last = weight.transpose(0, 2, 3, 1)
    taps_first = last.flags.c_contiguous
    places = np.arange(9 * lanes).reshape(9, lanes) * lanes
    columns = np.arange(9 * lanes)
    orders = np.stack([(places if taps_first else places.T).reshape(-1), columns * lanes, columns * 9 * channels])
    if taps_first:
        return last.reshape(-1), Layout(9 * channels, 1, channels, lanes, lanes * lanes), orders
    numbers = np.ascontiguousarray(weight).reshape(-1)
    return numbers, Layout(9 * channels, 9, lanes, 9 * lanes, lanes), orders


def _up(number: int, unit: int) -> int:
    return -(-number // unit)


@njit(cache=True, nogil=True, parallel=True)
def convolve_blocks(
    tile, shape, x, weight, layout, orders, turned, bias, y, v, u, m, g, by_panels, workers
):  # fmt: skip
    """Fill y [N, P, Q, y_channels] from x [N, H, W, x_channels], both flat.

    v, u, m, g: room for the blocks of V (a worker's own, or all), the panels of U (all, or a
    worker's own), a worker's M, and weights on their way.
    """
    pieces = -(-shape.size // PIECE)
    first_tasks = shape.blocks * pieces if by_panels else shape.panels
    for worker in prange(workers):
        for task in range(worker, first_tasks, workers):
            if by_panels:
                block, piece = divmod(task, pieces)
                _input(tile, shape, x, block, piece * PIECE, PIECE, v[block])
            else:
                _weights(tile, shape, weight, layout, orders, turned, task, 0, u[task], g[worker])
    tasks = shape.panels if by_panels else shape.blocks
    for worker in prange(workers):
        for task in range(worker, tasks, workers):
            if by_panels:
                for c in range(0, shape.channels, shape.depth):
                    _weights(tile, shape, weight, layout, orders, turned, task, c, u[worker], g[worker])
                    for block in range(shape.blocks):
                        _products(tile, shape, v[block], c, u[worker], block, m[worker, block])
                for block in range(shape.blocks):
                    _output(tile, shape, m[worker, block], bias, block, task, y)
            else:
                _input(tile, shape, x, task, 0, shape.size, v[worker])
                for panel in range(shape.panels):
                    _products(tile, shape, v[worker], 0, u[panel], task, m[worker, 0])
                    _output(tile, shape, m[worker, 0], bias, task, panel, y)


@njit(cache=True, nogil=True, parallel=True)
def correlate_blocks(tile, shape, x, dy, dw, layout, orders, span, v, d, du, g, workers):
    """Fill the weight's gradient dw from x [N, H, W, x_channels] and dy [N, P, Q, y_channels].

    All flat, and dw in whole vectors. v and d: room for V and for the output's gradient, `span`
    blocks of each; du: for all panels of the gradient of U, set to zero; g: a worker's weights.
    """
    for begin in range(0, shape.blocks, span):
        count = min(span, shape.blocks - begin)
        for worker in prange(workers):
            for task in range(worker, count, workers):
                _input(tile, shape, x, begin + task, 0, shape.size, v[task])
                for panel in range(shape.panels):
                    _gradient(tile, shape, dy, begin + task, panel, d[task, panel])
        for worker in prange(workers):
            for task in range(worker, shape.panels * PLANES, workers):
                panel, plane = divmod(task, PLANES)
                for i in range(count):
                    _add_products(tile, shape, v[i], d[i, panel], begin + i, plane, du[panel])
    for worker in prange(workers):
        for panel in range(worker, shape.panels, workers):
            _weight_gradient(tile, shape, du[panel], panel, dw, layout, orders, g[worker])


@njit(cache=True, nogil=True)
def _weights(tile, shape, weight, layout, orders, turned, panel, c0, u, g):
    """`depth` channels of a panel of U, from `c0` on: of the weights, or of turned ones, whose filters are the weight's channels."""
    lanes, block = shape.lanes, 9 * shape.lanes * shape.lanes
    for column in range(0, shape.panel, lanes):
        k = panel * shape.panel + column
        end = min(shape.channels, c0 + shape.depth)
        for strip in range(c0, end, STRIP * lanes):
            parts = range(strip, min(strip + STRIP * lanes, end), lanes)
            for b in range(9):
                for c in parts:
                    place = (c - strip) // lanes * block
                    if turned:
                        _read(tile, shape.lanes, shape.channels, shape.filters, weight, layout, orders, b, c, k, g, place)
                    else:
                        _read(tile, shape.lanes, shape.filters, shape.channels, weight, layout, orders, b, k, c, g, place)
            for c in parts:
                place = (c - strip) // lanes * block
                u_at = (c - c0) * shape.panel + column
                if turned:
                    other = STRIP * block
                    for tap in range(0, block, lanes * lanes):
                        transpose_block(tile, g, place + tap, lanes, g, other + tap, orders[1], 0)
                    last = other + 8 * lanes * lanes
                    transform_weights(tile, g, last, lanes, -lanes * lanes, u, u_at, shape.panel, shape.u_plane)
                else:
                    transform_weights(tile, g, place, lanes, lanes * lanes, u, u_at, shape.panel, shape.u_plane)


@njit(cache=True, nogil=True)
def _read(tile, lanes, filters, channels, weight, layout, orders, b, k, c, g, g_at):
    """Block b of 9 of the weights of filters k... and channels c... -> g [tap, channel, filter].

    Zero beyond the last filter and channel.
    """
    k_step, c_step, block_step = layout.k_step, layout.c_step, layout.block_step
    start = k * k_step + c * c_step + b * block_step
    if k + lanes <= filters and c + lanes <= channels:
        transpose_block(tile, weight, start, k_step, g, g_at, orders[0], b * lanes)
        return
    for i in range(lanes):
        place = orders[0, b * lanes + i]
        channel = c + place // lanes % lanes
        for j in range(lanes):
            inside = channel < channels and k + j < filters
            g[g_at + place + j] = weight[start + i + j * k_step] if inside else 0


@njit(cache=True, nogil=True)
def _input(tile, shape, x, block, first, count, v):
    """V of up to `count` tiles of a block, from the `first` on."""
    lanes, step = shape.lanes, shape.x_channels
    begin = block * shape.size
    n, rest = divmod(begin + first, shape.down * shape.across)
    i, j = divmod(rest, shape.across)
    for t in range(first, min(first + count, shape.size, shape.tiles - begin)):
        r, s = 2 * i - shape.top, 2 * j - shape.left
        inside = -r, -s, shape.height - r, shape.width - s
        x_at = ((n * shape.height + r) * shape.width + s) * step
        transform_input(
            tile, x, x_at, shape.width * step, step, inside,
            v, t * lanes, shape.size * lanes, shape.v_plane, step // lanes,
        )  # fmt: skip
        n, i, j = _next(shape, n, i, j)


@njit(cache=True, nogil=True)
def _gradient(tile, shape, dy, block, panel, d):
    """The gradient of a block's M in one panel."""
    lanes, step = shape.lanes, shape.y_channels
    begin, k = block * shape.size, panel * shape.panel
    n, rest = divmod(begin, shape.down * shape.across)
    i, j = divmod(rest, shape.across)
    vectors = (min(shape.panel, step - k)) // lanes
    for t in range(min(shape.size, shape.tiles - begin)):
        r, s = 2 * i, 2 * j
        inside = 0, 0, shape.p - r, shape.q - s
        dy_at = ((n * shape.p + r) * shape.q + s) * step + k
        transform_gradient(
            tile, dy, dy_at, shape.q * step, step, inside,
            d, t * shape.panel, lanes, shape.m_plane, vectors,
        )  # fmt: skip
        n, i, j = _next(shape, n, i, j)


@njit(cache=True, nogil=True)
def _products(tile, shape, v, c0, u, block, m):
    """M = V U over `depth` channels from `c0` on, added to M but for the first; plane by plane, in parts of nearly as many tiles each as the register tile has."""
    count = min(shape.size, shape.tiles - block * shape.size)
    parts = -(-count // shape.rows)
    depth = min(shape.depth, shape.x_channels - c0)
    for plane in range(PLANES):
        for part in range(parts):
            first, end = part * count // parts, (part + 1) * count // parts
            multiply_rows(
                tile, v, plane * shape.v_plane + c0 * shape.size + first * shape.lanes, shape.size * shape.lanes,
                u, plane * shape.u_plane,
                m, plane * shape.m_plane + first * shape.panel,
                end - first, depth // shape.lanes, c0 > 0,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _add_products(tile, shape, v, d, block, plane, du):
    """Add V' d of one block and plane to du [channel, filter]."""
    count = min(shape.size, shape.tiles - block * shape.size)
    for chunk in range(shape.x_channels // shape.lanes):
        multiply_columns(
            tile, v, plane * shape.v_plane + chunk * shape.size * shape.lanes,
            d, plane * shape.m_plane,
            du, plane * shape.du_plane + chunk * shape.lanes * shape.panel,
            count,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _output(tile, shape, m, bias, block, panel, y):
    """A block's outputs in one panel."""
    step = shape.y_channels
    begin, k = block * shape.size, panel * shape.panel
    n, rest = divmod(begin, shape.down * shape.across)
    i, j = divmod(rest, shape.across)
    vectors = min(shape.panel, step - k) // shape.lanes
    for t in range(min(shape.size, shape.tiles - begin)):
        r, s = 2 * i, 2 * j
        y_at = ((n * shape.p + r) * shape.q + s) * step + k
        transform_output(
            tile, m, t * shape.panel, shape.m_plane, bias, k,
            y, y_at, shape.q * step, step, shape.p - r, shape.q - s, vectors,
        )  # fmt: skip
        n, i, j = _next(shape, n, i, j)


@njit(cache=True, nogil=True)
def _weight_gradient(tile, shape, du, panel, dw, layout, orders, g):
    """dw of a panel's filters: du's planes -> 3 x 3 taps, in dw's memory."""
    k_step, c_step, block_step = layout.k_step, layout.c_step, layout.block_step
    lanes = shape.lanes
    for column in range(0, min(shape.panel, shape.y_channels - panel * shape.panel), lanes):
        k = panel * shape.panel + column
        for c in range(0, shape.x_channels, lanes):
            transform_products(tile, du, c * shape.panel + column, shape.panel, shape.du_plane, g, 0, layout.g_channel, layout.g_tap)
            for b in range(9):
                start = k * k_step + c * c_step + b * block_step
                transpose_block(tile, g, b * lanes * lanes, lanes, dw, start, orders[2], 0)


@njit(cache=True, nogil=True)
def _next(shape, n, i, j):
    """The tile after (image, row, column)."""
    j += 1
    if j == shape.across:
        i, j = i + 1, 0
    if i == shape.down:
        n, i = n + 1, 0
    return n, i, j
