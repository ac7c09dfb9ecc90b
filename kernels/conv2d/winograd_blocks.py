"""Winograd's convolution block by block, for Numba: what is transformed when, and by whom.

A block's pixels become `PLANES` matrices V [tile, channel], a panel's weights as many matrices U
[channel, filter]; their products M [tile, filter] become outputs while a cache still holds them.

    tasks are blocks  all of U is made first; each task makes its block's V
    tasks are panels  all of V is made first; each task makes its panel's U, some channels at a time

so that the larger of both goes through a core's cache once. Tasks are dealt out to `workers`, each
with scratch memory of its own; no sum depends on the number of these, or on how blocks are cut.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.compiled import Kernel
from kernels.conv2d.winograd_products import multiply_columns, multiply_rows, prefetch
from kernels.conv2d.winograd_shape import PLANES, STRIP
from kernels.conv2d.winograd_transforms import (
    transform_gradient,
    transform_input,
    transform_output,
    transform_products,
    transform_weights,
)
from kernels.tiles import transpose_block

PIECE = 8
"""How many tiles of a block one task transforms where blocks are few."""


def _convolve_source(
    workers, tile, shape, x, weight, layout, orders, turned, bias, y, v, u, m, g
):  # fmt: skip
    """Fill y [N, P, Q, y_channels] from x [N, H, W, x_channels], both flat.

    v, u, m, g: room for V (each worker's, or each block's), for U (each panel's, or each worker's),
    for M and for weights on their way (each worker's), all flat.
    """
    pieces = -(-shape.size // PIECE)
    tasks = shape.blocks * pieces if shape.by_panels else shape.panels
    for index in prange(workers):
        worker = np.int64(index)
        g_at = worker * shape.g_size
        for task in range(worker, tasks, workers):
            if shape.by_panels:
                block, piece = divmod(task, pieces)
                _input(tile, shape, x, block, piece * PIECE, PIECE, v, block * shape.v_size)
            else:
                u_at = task * shape.u_size
                _weights(tile, shape, weight, layout, orders, turned, task, 0, u, u_at, g, g_at)
    for index in prange(workers):
        worker = np.int64(index)
        g_at = worker * shape.g_size
        for task in range(worker, shape.panels if shape.by_panels else shape.blocks, workers):
            if shape.by_panels:
                first_panel, panels, first, blocks = task, 1, 0, shape.blocks
                v_at, m_at = 0, worker * shape.blocks * shape.m_size
            else:
                first_panel, panels, first, blocks = 0, shape.panels, task, 1
                v_at, m_at = worker * shape.v_size, worker * shape.m_size
                _input(tile, shape, x, task, 0, shape.size, v, v_at)
            for panel in range(first_panel, first_panel + panels):
                u_at = (worker if shape.by_panels else panel) * shape.u_size
                for c in range(0, shape.channels, shape.depth):
                    if shape.by_panels:
                        _weights(
                            tile, shape, weight, layout, orders, turned, panel, c, u, u_at, g, g_at
                        )
                    following = shape.panels, 0
                    if shape.ahead and not turned:
                        last = c + shape.depth >= shape.channels
                        following = (panel + workers, 0) if last else (panel, c + shape.depth)
                    _products(
                        tile, shape, v, v_at, c, u, u_at, first, blocks, m, m_at,
                        weight, layout, following,
                    )  # fmt: skip
                for i in range(blocks):
                    _output(tile, shape, m, m_at + i * shape.m_size, bias, first + i, panel, y)


def _correlate_source(workers, tile, shape, x, dy, dw, layout, orders, span, v, d, du, g):
    """Fill the weight's gradient dw from x [N, H, W, x_channels] and dy [N, P, Q, y_channels].

    All flat, and dw in whole vectors. v and d: room for V and for the output's gradient, `span`
    blocks of each; du: for all panels of the gradient of U, set to zero; g: a worker's weights.
    """
    for begin in range(0, shape.blocks, span):
        count = min(span, shape.blocks - begin)
        for index in prange(workers):
            worker = np.int64(index)
            for task in range(worker, count, workers):
                _input(tile, shape, x, begin + task, 0, shape.size, v, task * shape.v_size)
                for panel in range(shape.panels):
                    d_at = (task * shape.panels + panel) * shape.m_size
                    _gradient(tile, shape, dy, begin + task, panel, d, d_at)
        for index in prange(workers):
            worker = np.int64(index)
            for task in range(worker, shape.panels * PLANES, workers):
                panel, plane = divmod(task, PLANES)
                for i in range(count):
                    d_at = (i * shape.panels + panel) * shape.m_size
                    _add_products(
                        tile, shape, v, i * shape.v_size, d, d_at, begin + i, plane,
                        du, panel * shape.du_size,
                    )  # fmt: skip
    for index in prange(workers):
        worker = np.int64(index)
        for panel in range(worker, shape.panels, workers):
            du_at, g_at = panel * shape.du_size, worker * shape.g_size
            _weight_gradient(tile, shape, du, du_at, panel, dw, layout, orders, g, g_at)


convolve_blocks = Kernel(_convolve_source)
correlate_blocks = Kernel(_correlate_source)


@njit(cache=True, nogil=True)
def _weights(tile, shape, weight, layout, orders, turned, panel, c0, u, u_at, g, g_at):
    """`depth` channels from `c0` on of a panel of U; `turned` swaps the weight's K and C, too."""
    lanes, block = shape.lanes, 9 * shape.lanes * shape.lanes
    for column in range(0, shape.panel, lanes):
        k = panel * shape.panel + column
        end = min(shape.channels, c0 + shape.depth)
        for strip in range(c0, end, STRIP * lanes):
            parts = range(strip, min(strip + STRIP * lanes, end), lanes)
            for b in range(9):
                for c in parts:
                    place = g_at + (c - strip) // lanes * block
                    if turned:
                        ends = shape.channels, shape.filters
                        _read(tile, lanes, ends, weight, layout, orders, b, c, k, g, place)
                    else:
                        ends = shape.filters, shape.channels
                        _read(tile, lanes, ends, weight, layout, orders, b, k, c, g, place)
            for c in parts:
                place = g_at + (c - strip) // lanes * block
                row_at = u_at + (c - c0) * shape.panel + column
                if turned:
                    other = g_at + STRIP * block
                    for tap in range(0, block, lanes * lanes):
                        transpose_block(tile, g, place + tap, lanes, g, other + tap, orders[1], 0)
                    place, tap_step = other + 8 * lanes * lanes, -lanes * lanes
                else:
                    tap_step = lanes * lanes
                transform_weights(
                    tile, g, place, lanes, tap_step, u, row_at, shape.panel, shape.u_plane
                )


@njit(cache=True, nogil=True)
def _read(tile, lanes, ends, weight, layout, orders, b, k, c, g, g_at):
    """Block b of 9 of the weights of filters k... and channels c... -> g [tap, channel, filter].

    Zero from the `ends` of both on.
    """
    filters, channels = ends
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
def _input(tile, shape, x, block, first, count, v, v_at):
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
            v, v_at + t * lanes, shape.size * lanes, shape.v_plane, step // lanes,
        )  # fmt: skip
        n, i, j = _next(shape, n, i, j)


@njit(cache=True, nogil=True)
def _gradient(tile, shape, dy, block, panel, d, d_at):
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
            d, d_at + t * shape.panel, lanes, shape.m_plane, vectors,
        )  # fmt: skip
        n, i, j = _next(shape, n, i, j)


@njit(cache=True, nogil=True)
def _products(
    tile, shape, v, v_at, c0, u, u_at, first_block, blocks, m, m_at, weight, layout, following
):  # fmt: skip
    """Add to M the products of V and U over `depth` channels from `c0` on; the first ones set M.

    In parts of as many tiles as the register tile has points, or nearly so. Between them, memory is
    asked for the weights of the `following` panel and channels.
    """
    chunks = min(shape.depth, shape.x_channels - c0) // shape.lanes
    for plane in range(PLANES):
        for i in range(blocks):
            _fetch(tile, shape, weight, layout, following, plane * blocks + i, PLANES * blocks)
            v_plane = v_at + i * shape.v_size + plane * shape.v_plane + c0 * shape.size
            m_plane = m_at + i * shape.m_size + plane * shape.m_plane
            count = min(shape.size, shape.tiles - (first_block + i) * shape.size)
            parts = -(-count // shape.rows)
            for part in range(parts):
                first, end = part * count // parts, (part + 1) * count // parts
                multiply_rows(
                    tile, v, v_plane + first * shape.lanes, shape.size * shape.lanes,
                    u, u_at + plane * shape.u_plane, m, m_plane + first * shape.panel,
                    end - first, chunks, c0 > 0,
                )  # fmt: skip


@njit(cache=True, nogil=True)
def _fetch(tile, shape, weight, layout, following, share, shares):
    """Ask for one of equal shares of `depth` channels of a panel's weights."""
    panel, c = following
    if panel >= shape.panels:
        return
    depth = min(shape.depth, shape.channels - c)
    run = layout.block_step if layout.c_step == 1 else depth
    pieces = 9 * min(shape.panel, shape.filters - panel * shape.panel)
    for piece in range(share * pieces // shares, (share + 1) * pieces // shares):
        k, b = divmod(piece, 9)
        k += panel * shape.panel
        prefetch(tile, weight, k * layout.k_step + c * layout.c_step + b * run, depth)


@njit(cache=True, nogil=True)
def _add_products(tile, shape, v, v_at, d, d_at, block, plane, du, du_at):
    """Add V' d of one block and plane to du [channel, filter]."""
    count = min(shape.size, shape.tiles - block * shape.size)
    for chunk in range(shape.x_channels // shape.lanes):
        multiply_columns(
            tile, v, v_at + plane * shape.v_plane + chunk * shape.size * shape.lanes,
            d, d_at + plane * shape.m_plane,
            du, du_at + plane * shape.du_plane + chunk * shape.lanes * shape.panel,
            count,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _output(tile, shape, m, m_at, bias, block, panel, y):
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
            tile, m, m_at + t * shape.panel, shape.m_plane, bias, k,
            y, y_at, shape.q * step, step, shape.p - r, shape.q - s, vectors,
        )  # fmt: skip
        n, i, j = _next(shape, n, i, j)


@njit(cache=True, nogil=True)
def _weight_gradient(tile, shape, du, du_at, panel, dw, layout, orders, g, g_at):
    """dw of a panel's filters: du's planes -> 3 x 3 taps, in dw's memory."""
    k_step, c_step, block_step = layout.k_step, layout.c_step, layout.block_step
    lanes = shape.lanes
    for column in range(0, min(shape.panel, shape.y_channels - panel * shape.panel), lanes):
        k = panel * shape.panel + column
        for c in range(0, shape.x_channels, lanes):
            transform_products(
                tile, du, du_at + c * shape.panel + column, shape.panel, shape.du_plane,
                g, g_at, layout.channel_step, layout.tap_step,
            )  # fmt: skip
            for b in range(9):
                start = k * k_step + c * c_step + b * block_step
                transpose_block(tile, g, g_at + b * lanes * lanes, lanes, dw, start, orders[2], 0)


@njit(cache=True, nogil=True)
def _next(shape, n, i, j):
    """The tile after (image, row, column)."""
    j += 1
    if j == shape.across:
        i, j = i + 1, 0
    if i == shape.down:
        n, i = n + 1, 0
    return n, i, j
