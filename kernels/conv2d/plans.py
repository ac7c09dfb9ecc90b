"""How one convolution's work is cut: blocks of pixels that fit the cache, tiles, taps, tasks.

Along either axis output t reads inputs t stride + offset, one offset a tap. That is a convolution
(offset = r dilation - before), and also each phase of its input's gradient where it was strided.

A block is some rows of one image, or some whole images. Its input is copied with the zeros around
it, unless nothing reads outside of the image. Where every tap of a row follows the one before, a
row of taps is one run of numbers in channels-last memory. Where the work is cut changes no result:
each sum lies within one task and runs in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.arrays import Array
from kernels.simd import Tile

BLOCK_BYTES = 1 << 19
"""How much of the input a block holds at most: a part of the second-level cache."""
HEAVY_PIXELS, HEAVY_BYTES, HEAVY_BLOCK_BYTES = 1 << 10, 1 << 17, 1 << 21
"""For so few pixels, weights of so many bytes and more count more than the input."""
TASKS = 16
"""How many tasks there should be at least, to keep some threads busy to the end."""
FEW_PIXELS = 98
"""No block is cut below this for the sake of tasks: its weights would be read for too little."""


@dataclass(frozen=True)
class Axis:
    """One dimension of a convolution."""

    size: int
    """Of the input."""
    count: int
    """Of the output."""
    stride: int
    offsets: tuple[int, ...]

    @property
    def low(self) -> int:
        """The first input of output 0, negative where that is padding."""
        return min(self.offsets)

    def span(self, count: int) -> int:
        """How many inputs lie between the first and the last that `count` outputs read."""
        return (count - 1) * self.stride + max(self.offsets) - self.low + 1

    @property
    def inside(self) -> bool:
        """Whether no output reads padding."""
        return self.low >= 0 and self.low + self.span(self.count) <= self.size

    @property
    def adjoining(self) -> bool:
        """Whether the taps read neighbours, in their order."""
        return all(b - a == 1 for a, b in zip(self.offsets, self.offsets[1:], strict=False))


class Geometry(NamedTuple):
    """What the kernel is told about the arrays, in numbers of elements."""

    height: int
    width: int
    channels: int
    depth: int
    """Channels of a group."""
    groups: int
    filters: int
    """Of a group."""
    panels: int
    """How many tiles of columns hold a group's filters."""
    panel: int
    """Columns of a panel."""
    lanes: int
    """Columns of a vector."""
    ranks: int
    """How many numbers of points the tile comes with."""
    taps: int
    """Rows of a panel: products of one sum."""
    run: int
    copies: bool
    """Whether a block's input is copied."""
    stride: int
    """Input rows from one output row to the next."""
    top: int
    left: int
    """First input row and column of output 0."""
    span: int
    """Columns of the copy."""
    rows: int
    """Rows of the copy for one output row: `rows` + (n - 1) `stride` for n."""
    scratch: int
    """Size of a block's copy, and of its rows; rows of an image in it."""
    split: int
    """How many tasks share a block and its copy: each takes some panels."""
    share: int
    """Panels of a task."""
    transposed: bool
    """Whether a weight's filters are summed over, and its channels are the columns."""
    image_step: int
    row_step: int
    """Output elements from one image or row to the next."""
    out: int = 0
    """The first of the output's elements."""
    packed: int = -1
    """Where its packed panels begin; negative where each task packs its own."""
    first_run: int = 0
    last_run: int = 0
    first_row: int = 0
    last_row: int = 0
    """Its parts of the `Work`'s runs and rows."""


@dataclass(frozen=True)
class Plan:
    """How a convolution is cut; read-only."""

    geometry: Geometry
    blocks: Array
    """[blocks, 5]: first image, images, first output row, rows, which of the two coverings."""
    origins: Array
    """Where a block's pixels begin in its input."""
    places: Array
    """Where a block's pixels lie in the output."""
    runs: Array
    """Where the runs begin, behind a pixel's origin."""
    coverings: Array
    """[2, tiles, 2]: first pixel and number of points' rank, for a whole block and the last one."""
    lengths: Array
    """[2]: tiles of either covering."""


def make_plan(
    tile: Tile,
    itemsize: int,
    images: int,
    channels: int,
    groups: int,
    filters: int,
    rows: Axis,
    columns: Axis,
    steps: tuple[int, int, int],
    transposed: bool = False,
) -> Plan:
    """The plan of a convolution; `steps`: output elements to the next image, row, column."""
    depth = channels // groups
    panel = tile.vectors * tile.width // itemsize
    panels = -(-(filters // groups) // panel)
    copies = groups > 1 or not (rows.inside and columns.inside)
    span = columns.span(columns.count)
    weights = len(rows.offsets) * len(columns.offsets) * depth * filters * itemsize
    if images * rows.count * columns.count <= HEAVY_PIXELS and weights > HEAVY_BYTES:
        # The weights are cut among the tasks, not the pixels: each weight is read once.
        wanted, room = -(-TASKS // (2 * panels * groups)), HEAVY_BLOCK_BYTES
    else:
        wanted, room = TASKS, BLOCK_BYTES
    block = _block(images, rows, columns, span * depth * itemsize, wanted, room)
    some_images, some_rows = block
    rows_high = rows.span(some_rows)
    share, split = _shares(panels, groups, images, rows.count, some_images, some_rows)
    if copies:
        row_length, image_length, column_length = span * depth, rows_high * span * depth, depth
    else:
        row_length, column_length = columns.size * channels, channels
        image_length = rows.size * row_length
    joined = columns.adjoining
    across = [0] if joined else [offset - columns.low for offset in columns.offsets]
    runs = [
        (down - rows.low) * row_length + step * column_length
        for down in rows.offsets
        for step in across
    ]
    i, t, u = np.ogrid[:some_images, :some_rows, : columns.count]
    origins = i * image_length + (t * row_length * rows.stride) + u * columns.stride * column_length
    places = i * steps[0] + t * steps[1] + u * steps[2]
    blocks, last = _blocks(images, rows.count, some_images, some_rows)
    coverings = [cover(n * columns.count, tile.points) for n in (some_images * some_rows, last)]
    table = np.zeros((2, max(map(len, coverings)), 2), np.int64)
    for which, covering in enumerate(coverings):
        table[which, : len(covering)] = covering
    taps = len(rows.offsets) * len(columns.offsets) * depth
    geometry = Geometry(
        height=rows.size,
        width=columns.size,
        channels=channels,
        depth=depth,
        groups=groups,
        filters=filters // groups,
        panels=panels,
        panel=panel,
        lanes=panel // tile.vectors,
        ranks=len(tile.points),
        taps=taps,
        run=taps // len(runs),
        copies=copies,
        stride=rows.stride,
        top=rows.low,
        left=columns.low,
        span=span,
        rows=rows.span(1),
        scratch=some_images * rows_high * span * depth if copies else 0,
        split=split,
        share=share,
        transposed=transposed,
        image_step=steps[0],
        row_step=steps[1],
    )
    return Plan(
        geometry=geometry,
        blocks=np.array(blocks, np.int64),
        origins=origins.astype(np.int64).ravel(),
        places=places.astype(np.int64).ravel(),
        runs=np.array(runs, np.int64),
        coverings=table,
        lengths=np.array([len(covering) for covering in coverings], np.int64),
    )


def _block(
    images: int, rows: Axis, columns: Axis, row_bytes: int, wanted: int, room: int
) -> tuple[int, int]:
    """How many images and how many of their rows a block holds, if `wanted` blocks are."""
    pixels = max(FEW_PIXELS, -(-images * rows.count * columns.count // wanted))
    most = max(1, pixels // columns.count)
    while most > 1 and rows.span(min(most, rows.count)) * row_bytes > room:
        most = most // 2 if most > 8 else most - 1
    if most < rows.count:
        some = -(-rows.count // -(-rows.count // most))
        for more in range(some, 2 * some):
            # An even number of blocks gives two threads, and mostly four, equal shares.
            even = images * -(-rows.count // more) % 2 == 0
            if even and rows.span(min(more, rows.count)) * row_bytes <= room:
                return 1, more
        return 1, some
    by_memory = max(1, room // (rows.span(rows.count) * row_bytes))
    some = max(1, min(most // rows.count, by_memory, images))
    return -(-images // -(-images // some)), rows.count


def _shares(
    panels: int, groups: int, images: int, rows: int, some_images: int, some_rows: int
) -> tuple[int, int]:
    blocks = -(-images // some_images) * -(-rows // some_rows) * groups
    split = min(panels, max(1, round(TASKS / blocks)))
    share = -(-panels // split)
    return share, -(-panels // share)


def _blocks(
    images: int, rows: int, some_images: int, some_rows: int
) -> tuple[list[tuple[int, ...]], int]:
    """The blocks, and how many rows the smaller ones at the end hold."""
    blocks = []
    last = some_images * some_rows
    for image in range(0, images, some_images):
        for row in range(0, rows, some_rows):
            i, t = min(some_images, images - image), min(some_rows, rows - row)
            whole = i * t == some_images * some_rows
            blocks.append((image, i, row, t, 0 if whole else 1))
            last = last if whole else i * t
    return blocks, last


def cover(pixels: int, points: tuple[int, ...]) -> list[tuple[int, int]]:
    """Tiles over `pixels`, as even as they can be: (first pixel, rank in `points`).

    The last tile may overlap the one before: it computes the same numbers again.
    """
    count = -(-pixels // points[0])
    even = min(size for size in points if size * count >= pixels)
    tiles = []
    first = 0
    while first < pixels:
        left = pixels - first
        enough = [size for size in points if left <= size <= min(even, pixels)]
        if enough:
            size, first = enough[-1], pixels - enough[-1]
        else:
            size = next(size for size in points if size <= min(even, left))
        tiles.append((first, points.index(size)))
        first += size
    return tiles
