"""What is computed for a weight's gradient: blocks of pixels, tiles, and how tasks share them.

Tables, made once for each shape: `weight_tasks` runs them. Where weights are few and pixels many,
the pixels are cut into chunks that sum apart.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from math import gcd, prod
from typing import NamedTuple

import numpy as np

from kernels.arrays import Array
from kernels.conv2d.plans import TASKS
from kernels.simd import Tile

PIXELS = 256
"""About how many pixels a tile sums before the next takes its turn: they stay in cache."""


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
    span, points = _span(tile, itemsize, depth), tile.points[0]
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
    edges = _edges(n, p, q)
    m = np.arange(n * p)
    read = m % p * stride[0] - before[0] + np.arange(kernel[0])[:, None] * dilation[0]
    inside = (read >= 0) & (read < height)
    a_reads, a_rows = _reads(edges, np.broadcast_to(m, read.shape), inside)
    read_rows = m // p * height + read
    b_reads, b_rows = _reads(edges, read_rows, inside)
    across = max(0, -(-(width - origin) // step))
    a_side = Side(*a_reads, q * filters, 0, filters, q, points)
    b_side = Side(*b_reads, width * channels, origin * channels, step * channels, across, span)
    packed = groups > 1 or not b_side.whole
    tiles = partition(many, tile.points)
    cells, a_cuts, b_cuts = [], [], []
    for group in range(groups):
        for column, columns, wide in _panels(tile, itemsize, depth):
            b_cuts.append((group * depth + column, columns))
            row = []
            for i, (point, rank) in enumerate(tiles):
                at = (group * many + point) * len(taps) * depth + column
                own = group * len(tiles) + i
                row.append((rank + wide, own, 0, len(b_cuts) - 1, at, columns))
            cells.append(row)
        a_cuts += [(group * many + point, tile.points[rank]) for point, rank in tiles]
    cells_in_order, blocks, parts = _shares(
        cells, len(edges) - 1, groups, a_side, b_side, filters * len(taps) * depth
    )
    return Products(
        cells_in_order, _table(taps),
        a_side, _table(a_cuts), a_rows[inside] * (q * points),
        b_side, _table(b_cuts), (b_rows if packed else read_rows)[inside] * (across * span),
        packed, None, _bounds(edges, inside), blocks, parts,
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
    span = _span(tile, itemsize, filters)
    r, t, c = np.ogrid[: kernel[0], : kernel[1], :channels]
    points = ((r * dilation[0] * wide + t * dilation[1]) * channels + c).ravel()
    edges = _edges(n, p, q)
    m = np.arange(n * p)
    window = np.arange((kernel[0] - 1) * dilation[0] + 1)[:, None]
    padded = m // p * high + m % p * stride[0] + window
    everywhere = np.ones((1, n * p), bool)
    (reads, a_bounds), a_rows = _reads(edges, padded, np.ones(padded.shape, bool))
    image, row = reads // high, reads % high - before[0]
    reads = np.where((row >= 0) & (row < height), image * height + row, -1)
    b_reads, b_rows = _reads(edges, m[None], everywhere)
    a_side = Side(reads, a_bounds, width * channels, before[1] * channels, channels, wide, channels)
    b_side = Side(*b_reads, q * filters, 0, filters, q, span)
    panels = _panels(tile, itemsize, filters)
    cells = [
        [
            (rank + shape, 0, point, panel, point * filters + column, columns)
            for point, rank in partition(len(points), tile.points)
        ]
        for panel, (column, columns, shape) in enumerate(panels)
    ]
    cells_in_order, blocks, parts = _shares(
        cells, len(edges) - 1, 1, a_side, b_side, filters * len(points)
    )
    return Products(
        cells_in_order, _table([(0, q, 0, 0, 0)]),
        a_side, _table([(0, 0)]), a_rows[0] * (wide * channels),
        b_side, _table([panel[:2] for panel in panels]),
        (m if b_side.whole else b_rows[0]) * (q * span), not b_side.whole,
        points.astype(np.int64), _bounds(edges, everywhere), blocks, parts,
        (stride[1] * channels, span, filters),
    )  # fmt: skip


def _table(rows: Sequence[tuple[int, ...]]) -> Array:
    return np.array(rows, np.int64)


def _edges(images: int, rows: int, length: int) -> Array:
    """[blocks + 1]: each block's first row of pixels: some rows of an image or some images."""
    few = rows * length <= PIXELS
    some = PIXELS // (rows * length) * rows if few else -(-rows // -(-rows * length // PIXELS))
    return np.minimum(np.arange(0, images * rows + some, some), images * rows)


def _reads(edges: Array, wanted: Array, where: Array) -> tuple[tuple[Array, Array], Array]:
    """What each block reads of `wanted` [..., rows], once: (reads, bounds); and where that is."""
    reads, bounds, places = [], [0], np.zeros(wanted.shape, np.int64)
    for begin, end in itertools.pairwise(edges):
        block = wanted[:, begin:end]
        reads.append(np.unique(block[where[:, begin:end]]))
        places[:, begin:end] = np.searchsorted(reads[-1], block)
        bounds.append(bounds[-1] + len(reads[-1]))
    return (np.concatenate(reads).astype(np.int64), np.array(bounds, np.int64)), places


def _bounds(edges: Array, inside: Array) -> Array:
    """[kernel rows, blocks + 1]: how many rows that are inside come before each block."""
    before = np.concatenate([[0], np.cumsum(inside)])
    return before[edges + np.arange(len(inside))[:, None] * inside.shape[1]].astype(np.int64)


def _shares(
    cells: Sequence[Sequence[tuple[int, ...]]],
    blocks: int,
    groups: int,
    a: Side,
    b: Side,
    weights: int,
) -> tuple[Array, Array, Array]:
    """The cells [panels of b, tiles of its group] in parts' order, the chunks' blocks, the parts.

    So that tasks pack and add up the least: who has part of b's panels packs a's anew.
    """
    powers = [1 << i for i in range(TASKS.bit_length())]

    def cost(cut: tuple[int, int, int]) -> tuple[int, float]:
        chunks, across, down = cut
        packed = max(1, across / groups) * _packed(a) + down * _packed(b)
        return -prod(cut), packed + (2 * chunks * weights if chunks > 1 else 0)

    cuts = [
        (chunks, across, down)
        for chunks, across, down in itertools.product(powers, repeat=3)
        if chunks * across * down <= TASKS
        and (chunks <= blocks and across <= len(cells) and down <= len(cells[0]))
    ]
    chunks, across, down = min(cuts, key=cost)
    order: list[tuple[int, ...]] = []
    parts = []
    for i, j in np.ndindex(across, down):
        begin = len(order)
        for row in cells[len(cells) * i // across : len(cells) * (i + 1) // across]:
            order += row[len(row) * j // down : len(row) * (j + 1) // down]
        own = np.array(order[begin:])
        ends = [(min(own[:, side]), max(own[:, side]) + 1) for side in (1, 3)]
        parts.append((begin, len(order), *ends[0], *ends[1]))
    starts = np.array([blocks * i // chunks for i in range(chunks + 1)])
    return _table(order), starts, _table(parts)


def _packed(side: Side) -> int:
    """How many numbers of the source are packed, about."""
    return len(side.reads) * side.pixels * side.pixel


def _span(tile: Tile, itemsize: int, columns: int) -> int:
    """How wide panels of so many columns are."""
    lanes = tile.width // itemsize
    return lanes if columns <= lanes else lanes * tile.vectors


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
