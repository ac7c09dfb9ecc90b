"""How a weight's gradient is cut: pixels into blocks and chunks, columns into panels, into tasks.

Where weights are few and pixels many, the pixels are cut into chunks that sum apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import prod

import numpy as np

from kernels.arrays import Array
from kernels.conv2d.plans import TASKS
from kernels.simd import Tile

PIXELS = 256
"""About how many pixels a tile sums before the next takes its turn: they stay in cache."""


def table(rows: Sequence[tuple[int, ...]]) -> Array:
    """The rows as compiled code takes them."""
    return np.array(rows, np.int64)


def block_edges(images: int, rows: int, length: int) -> Array:
    """[blocks + 1]: each block's first row of pixels: some rows of an image or some images."""
    few = rows * length <= PIXELS
    some = PIXELS // (rows * length) * rows if few else -(-rows // -(-rows * length // PIXELS))
    return np.minimum(np.arange(0, images * rows + some, some), images * rows)


def reads_of(edges: Array, wanted: Array, where: Array) -> tuple[tuple[Array, Array], Array]:
    """What each block reads of `wanted` [..., rows], once: (reads, bounds); and where that is."""
    reads, bounds, places = [], [0], np.zeros(wanted.shape, np.int64)
    for begin, end in itertools.pairwise(edges):
        block = wanted[:, begin:end]
        reads.append(np.unique(block[where[:, begin:end]]))
        places[:, begin:end] = np.searchsorted(reads[-1], block)
        bounds.append(bounds[-1] + len(reads[-1]))
    return (np.concatenate(reads).astype(np.int64), np.array(bounds, np.int64)), places


def bounds_of(edges: Array, inside: Array) -> Array:
    """[kernel rows, blocks + 1]: how many rows that are inside come before each block."""
    before = np.concatenate([[0], np.cumsum(inside)])
    return before[edges + np.arange(len(inside))[:, None] * inside.shape[1]].astype(np.int64)


def shares_of(
    cells: Sequence[Sequence[tuple[int, ...]]],
    blocks: int,
    groups: int,
    packed: tuple[int, int],
    weights: int,
) -> tuple[Array, Array, Array]:
    """The cells [panels of b, tiles of its group] in parts' order, the chunks' blocks, the parts.

    So that tasks pack and add up the least: who has part of b's panels packs a's anew. `packed`:
    the numbers of all panels of a and of b; `weights`: the sums of a chunk.
    """
    powers = [1 << i for i in range(TASKS.bit_length())]

    def cost(cut: tuple[int, int, int]) -> tuple[int, float]:
        chunks, across, down = cut
        numbers = max(1, across / groups) * packed[0] + down * packed[1]
        return -prod(cut), numbers + (2 * chunks * weights if chunks > 1 else 0)

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
    return table(order), starts, table(parts)


def span_of(tile: Tile, itemsize: int, columns: int) -> int:
    """How wide panels of so many columns are."""
    lanes = tile.width // itemsize
    return lanes if columns <= lanes else lanes * tile.vectors


def panels_of(tile: Tile, itemsize: int, columns: int) -> list[tuple[int, int, int]]:
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
