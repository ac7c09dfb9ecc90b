"""How Winograd's convolution is cut, and where weights lie: numbers for the compiled blocks.

Tiles of 2 x 2 outputs, counted across all images, are gathered into blocks of `size`; filters into
panels, as wide as the register tile. Channels and filters come in whole vectors.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from kernels.arrays import Array
from kernels.simd import Tile

PLANES = 16
"""Numbers that a tile of pixels, or a filter of one channel, is transformed to."""
STRIP = 2
"""How many vectors of channels of the weights are read at a time: two lines of a cache."""
EVEN = 8
"""Blocks come in multiples of this, so that few threads get as many each."""


class Shape(NamedTuple):
    """One convolution's numbers."""

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
    """Rows of tiles in an image."""
    across: int
    """Columns of tiles in an image."""
    tiles: int
    size: int
    blocks: int
    by_panels: bool
    """Whether tasks are panels, for the weights are more than the pixels; else blocks."""
    ahead: bool
    """Whether weights are asked for ahead of their use: where products are many, it pays."""
    depth: int
    """How many channels of a panel's weights are transformed and multiplied at a time."""
    channels: int
    filters: int
    x_channels: int
    """Channels of an input pixel: whole vectors."""
    y_channels: int
    """Channels of an output pixel: whole vectors."""
    panels: int
    v_plane: int
    """From one plane of a block's pixels to the next."""
    u_plane: int
    """From one plane of a panel's weights to the next, of `depth` channels each."""
    du_plane: int
    """The same for all channels."""
    m_plane: int
    """From one plane of a block's products to the next."""
    v_size: int
    u_size: int
    du_size: int
    m_size: int
    g_size: int
    """Room for weights on their way."""


def make_shape(
    tile: Tile,
    images: Array,
    output: Array,
    before: tuple[int, int],
    block_bytes: int,
    depth: int,
) -> Shape:
    """The numbers for [N, C, H, W] and [N, K, P, Q], with `before` zeros above and to the left.

    A block's transformed pixels take about `block_bytes`, but where tasks are panels: there a block
    is what is multiplied at a time, and weights go by `depth` channels, a multiple of the lanes.
    """
    lanes, panel = tile.lanes(images.dtype), tile.panel(images.dtype)
    n, channels, height, width = images.shape
    _, filters, p, q = output.shape
    x_channels, y_channels = up(channels, lanes) * lanes, up(filters, lanes) * lanes
    down, across = up(p, 2), up(q, 2)
    tiles, rows = n * down * across, tile.points[0]
    by_panels = tiles < filters
    if by_panels:
        depth, blocks = min(depth, x_channels), up(tiles, rows)
    else:
        most = max(rows, block_bytes // (PLANES * x_channels * images.itemsize))
        depth, blocks = x_channels, up(up(tiles, most), EVEN) * EVEN
    size = up(tiles, blocks)
    # Planes that are apart by a power of two would fall on the same few lines of a cache.
    apart = 64 // images.itemsize
    v_plane, u_plane = x_channels * size + apart, depth * panel + apart
    du_plane, m_plane = x_channels * panel + apart, size * panel + apart
    return Shape(
        lanes=lanes,
        panel=panel,
        rows=rows,
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
        blocks=up(tiles, size),
        by_panels=by_panels,
        ahead=by_panels and blocks >= EVEN,
        depth=depth,
        channels=channels,
        filters=filters,
        x_channels=x_channels,
        y_channels=y_channels,
        panels=up(filters, panel),
        v_plane=v_plane,
        u_plane=u_plane,
        du_plane=du_plane,
        m_plane=m_plane,
        v_size=PLANES * v_plane,
        u_size=PLANES * u_plane,
        du_size=PLANES * du_plane,
        m_size=PLANES * m_plane,
        g_size=(STRIP + 1) * 9 * lanes**2,
    )


class Layout(NamedTuple):
    """Where lanes x lanes filters and channels of a weight lie: as 9 blocks of lanes x lanes,

        block b of filters k... and channels c... starts at k k_step + c c_step + b block_step

    a filter's numbers each. Those `k_step` further are the next filter's; the columns are channels
    of one tap in channels-last memory, pairs (channel, tap) in contiguous memory.
    """

    k_step: int
    c_step: int
    block_step: int
    channel_step: int
    """Where columns lie once the blocks are transposed, one behind the other: a channel's step."""
    tap_step: int
    """And a tap's."""


def make_layout(weight: Array, lanes: int) -> tuple[Array, Layout, Array]:
    """[K, C, 3, 3] -> its numbers in the order of memory (copied if there is none), and where.

    The last result's rows are places for `kernels.tiles.transpose_block`: of the columns of the
    blocks as [tap, channel, filter], of rows without gaps, and of rows `k_step` apart.
    """
    channels = weight.shape[1]
    last = weight.transpose(0, 2, 3, 1)
    if last.flags.c_contiguous:
        layout = Layout(9 * channels, 1, channels, lanes, lanes * lanes)
        return last.reshape(-1), layout, _places(lanes, True, layout.k_step)
    layout = Layout(9 * channels, 9, lanes, 9 * lanes, lanes)
    numbers = np.ascontiguousarray(weight).reshape(-1)
    return numbers, layout, _places(lanes, False, layout.k_step)


@functools.lru_cache(maxsize=64)
def _places(lanes: int, taps_first: bool, k_step: int) -> Array:
    rows = np.arange(9 * lanes)
    columns = rows.reshape(9, lanes) if taps_first else rows.reshape(9, lanes).T
    return np.stack([columns.reshape(-1) * lanes, rows * lanes, rows * k_step])


def up(number: int, unit: int) -> int:
    """How many units cover the number."""
    return -(-number // unit)
