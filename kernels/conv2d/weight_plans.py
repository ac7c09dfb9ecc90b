"""What is computed for a weight's gradient: which pixels are packed, which tiles are summed.

Tables, made once for each shape: `weight_cuts` cuts the work, `weight_tasks` does it.
"""

from __future__ import annotations

import functools
from math import gcd
from typing import NamedTuple

import numpy as np

from kernels.arrays import Array
from kernels.conv2d.weight_cuts import (
    block_edges,
    bounds_of,
    panels_of,
    partition,
    reads_of,
    shares_of,
    span_of,
    table,
)
from kernels.simd import Tile


class Side(NamedTuple):
    """How one of the two factors is packed."""

    reads: Array
    """The source's rows, block after block; -1 for a row of zeros."""
    bounds: Array
    """[blocks + 1]: the first of the reads of each block."""
    row: int
    """Numbers of a source's row."""
    first: int
    """Where in its row the first packed pixel is; of padded rows, where in those the source is."""
    pixel: int
    """From one packed pixel to the next, in the source."""
    pixels: int
    """Of a row, packed."""
    width: int
    """Of a packed pixel."""

    @property
    def whole(self) -> bool:
        """Whether a panel is the source's rows as they lie."""
        return self.first == 0 and self.width == self.pixel and self.pixels * self.width == self.row

    @property
    def packed(self) -> int:
        """How many numbers of the source are packed, about."""
        return len(self.reads) * self.pixels * self.pixel


class Products(NamedTuple):
    """Every tile of a weight's gradient: points of `a` times columns of `b`; read-only."""

    cells: Array
    """[cells, 6]: shape, panel of a, point, panel of b, place in the sums, columns."""
    taps: Array
    """[taps, 5], of each cell: kernel row, pixels of a row, begin in a, begin in b, in the sums."""
    a_side: Side
    a_cuts: Array
    """[panels, 2]: a pixel's first number, and how many."""
    a_rows: Array
    """[kernel rows x rows of pixels]: where they begin in a block's panel."""
    b_side: Side
    b_cuts: Array
    b_rows: Array
    """In the source, where nothing is `packed`."""
    packed: bool
    """Whether b is."""
    points: Array | None
    """Where the points lie, behind a pixel; None where they are neighbours."""
    bounds: Array
    """[kernel rows, blocks + 1]: the first of its rows that a block sums."""
    blocks: Array
    """[chunks + 1]: the first block of each chunk."""
    parts: Array
    """[parts, 6]: the first and last + 1 of its cells, panels of a and panels of b."""
    steps: tuple[int, int, int]
    """From pixel to pixel in a, in b, and from point to point in the sums."""


@functools.lru_cache(maxsize=256)
def channel_products(
    tile: Tile,
    itemsize: int,
    large: tuple[int, ...],
    small: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    before: tuple[int, int],
    after: tuple[int, int],  # noqa: ARG001 - what is outside is left out
) -> Products:
    """For x [N, H, W, C], `large`, and gy [N, P, Q, K], `small`: sums [K, R, S, C / groups]."""
    _, height, width, channels = large
    n, p, q, filters = small
    depth, many = channels // groups, filters // groups
    span, points = span_of(tile, itemsize, depth), tile.points[0]
    # Columns that no tap reads are not packed.
    step = gcd(stride[1], dilation[1]) if kernel[1] > 1 else stride[1]
    origin = -before[1] % step
    taps = []
    for r, s in np.ndindex(*kernel):
        first = s * dilation[1] - before[1]
        begin = max(0, -(first // stride[1]))
        end = max(begin, min(q, (width - 1 - first) // stride[1] + 1))
        column = (first + begin * stride[1] - origin) // step
        taps.append((r, end - begin, begin * points, column * span, (r * kernel[1] + s) * depth))
    edges = block_edges(n, p, q)
    m = np.arange(n * p)
    read = m % p * stride[0] - before[0] + np.arange(kernel[0])[:, None] * dilation[0]
    inside = (read >= 0) & (read < height)
    a_reads, a_rows = reads_of(edges, np.broadcast_to(m, read.shape), inside)
    read_rows = m // p * height + read
    b_reads, b_rows = reads_of(edges, read_rows, inside)
    across = max(0, -(-(width - origin) // step))
    a_side = Side(*a_reads, q * filters, 0, filters, q, points)
    b_side = Side(*b_reads, width * channels, origin * channels, step * channels, across, span)
    packed = groups > 1 or not b_side.whole
    tiles = partition(many, tile.points)
    cells, a_cuts, b_cuts = [], [], []
    for group in range(groups):
        for column, columns, wide in panels_of(tile, itemsize, depth):
            b_cuts.append((group * depth + column, columns))
            row = []
            for i, (point, rank) in enumerate(tiles):
                at = (group * many + point) * len(taps) * depth + column
                own = group * len(tiles) + i
                row.append((rank + wide, own, 0, len(b_cuts) - 1, at, columns))
            cells.append(row)
        a_cuts += [(group * many + point, tile.points[rank]) for point, rank in tiles]
    cells_in_order, blocks, parts = shares_of(
        cells, len(edges) - 1, groups, (a_side.packed, b_side.packed), filters * len(taps) * depth
    )
    return Products(
        cells_in_order, table(taps),
        a_side, table(a_cuts), a_rows[inside] * (q * points),
        b_side, table(b_cuts), (b_rows if packed else read_rows)[inside] * (across * span),
        packed, None, bounds_of(edges, inside), blocks, parts,
        (points, span * stride[1] // step, len(taps) * depth),
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def point_products(
    tile: Tile,
    itemsize: int,
    large: tuple[int, ...],
    small: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,  # noqa: ARG001 - there is one
    before: tuple[int, int],
    after: tuple[int, int],
) -> Products:
    """The same for few channels: sums [R, S, C, K]."""
    _, height, width, channels = large
    n, p, q, filters = small
    high, wide = height + before[0] + after[0], width + before[1] + after[1]
    span = span_of(tile, itemsize, filters)
    r, t, c = np.ogrid[: kernel[0], : kernel[1], :channels]
    points = ((r * dilation[0] * wide + t * dilation[1]) * channels + c).ravel()
    edges = block_edges(n, p, q)
    m = np.arange(n * p)
    window = np.arange((kernel[0] - 1) * dilation[0] + 1)[:, None]
    padded = m // p * high + m % p * stride[0] + window
    everywhere = np.ones((1, n * p), bool)
    (reads, a_bounds), a_rows = reads_of(edges, padded, np.ones(padded.shape, bool))
    image, row = reads // high, reads % high - before[0]
    reads = np.where((row >= 0) & (row < height), image * height + row, -1)
    b_reads, b_rows = reads_of(edges, m[None], everywhere)
    a_side = Side(reads, a_bounds, width * channels, before[1] * channels, channels, wide, channels)
    b_side = Side(*b_reads, q * filters, 0, filters, q, span)
    panels = panels_of(tile, itemsize, filters)
    cells = [
        [
            (rank + shape, 0, point, panel, point * filters + column, columns)
            for point, rank in partition(len(points), tile.points)
        ]
        for panel, (column, columns, shape) in enumerate(panels)
    ]
    cells_in_order, blocks, parts = shares_of(
        cells, len(edges) - 1, 1, (a_side.packed, b_side.packed), filters * len(points)
    )
    return Products(
        cells_in_order, table([(0, q, 0, 0, 0)]),
        a_side, table([(0, 0)]), a_rows[0] * (wide * channels),
        b_side, table([panel[:2] for panel in panels]),
        (m if b_side.whole else b_rows[0]) * (q * span), not b_side.whole,
        points.astype(np.int64), bounds_of(edges, everywhere), blocks, parts,
        (stride[1] * channels, span, filters),
    )  # fmt: skip
