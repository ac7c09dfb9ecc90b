"""The steps of Winograd's convolution, for Numba: one block's pixels, one panel's weights.

`winograd_blocks` says when each is taken, and by whom; all arrays are flat, `..._at` is where a
block's or a panel's part begins.
"""

from __future__ import annotations

from numba import njit

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


@njit(cache=True, nogil=True)
def make_weights(tile, shape, weight, layout, orders, turned, panel, c0, u, u_at, g, g_at):
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
def make_input(tile, shape, x, block, first, count, v, v_at):
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
def make_gradient(tile, shape, dy, block, panel, d, d_at):
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
def multiply(
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
def add_products(tile, shape, v, v_at, d, d_at, block, plane, du, du_at):
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
def make_output(tile, shape, m, m_at, bias, block, panel, y):
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
def make_weight_gradient(tile, shape, du, du_at, panel, dw, layout, orders, g, g_at):
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
