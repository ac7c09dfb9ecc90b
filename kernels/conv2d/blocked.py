"""Planned convolutions, run: panels packed, blocks copied, tile after tile of sums."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numba.np.unsafe.ndarray import to_fixed_tuple

from kernels.arrays import Array
from kernels.compiled import Kernel
from kernels.conv2d.packing import copy_block, pack
from kernels.conv2d.plans import Geometry
from kernels.conv2d.work import Work
from kernels.simd import Tile
from kernels.tiles import multiply_tile

SLABS = 8
"""Into how many parts the copy of a block is cut that several tasks share."""
FIELDS = len(Geometry._fields)


def convolve(
    tile: Tile,
    work: Work,
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    *,
    threaded: bool,
    threads: int | None,
    relu: bool = False,
) -> None:
    """Fill `y` as the work says, all arrays flat but `bias`; `weight` as `packing.pack` takes it.

    With `relu` what is negative becomes 0.
    """
    if bias is not None and bias.size == work.columns:
        start = np.ascontiguousarray(bias)
    else:
        start = np.zeros(work.columns, x.dtype)
        if bias is not None:
            groups, filters = work.filters
            start.reshape(groups, -1)[:, :filters] = bias.reshape(groups, -1)
    _KERNEL(
        threaded, threads, len(work.tasks), tile, x, weight, start, relu, y, work.packed,
        work.copied, work.geometries, work.tasks, work.blocks, work.panels, work.copies, work.rows,
        work.origins, work.places, work.runs, work.coverings, work.lengths,
    )  # fmt: skip


def _kernel(
    count, tile, x, weight, start, relu, y, packed_size, copied_size, geometries, tasks, blocks,
    panels, copies, rows, origins, places, runs, coverings, lengths,
):  # fmt: skip
    packed = _aligned(packed_size, x)
    for i in prange(len(panels)):
        g = _geometry(geometries[panels[i, 0]])
        number = panels[i, 1]
        at = g.packed + number * g.panel * g.taps
        own = rows[g.first_row : g.last_row]
        pack(tile, g, weight, own, number // g.panels, number % g.panels, packed, at)
    copied = np.empty(copied_size, x.dtype)
    for i in prange(len(copies) * SLABS):
        block = blocks[copies[i // SLABS]]
        g = _geometry(geometries[block[6]])
        copy_block(g, x, block, i % SLABS, SLABS, copied, block[7])
    for i in prange(count):
        block = blocks[tasks[i, 0]]
        g = _geometry(geometries[block[6]])
        _task(
            tile, g, block, tasks[i, 1], x, copied, weight, rows[g.first_row : g.last_row], packed,
            start, relu, y, origins, places, runs[g.first_run : g.last_run], coverings, lengths,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _task(
    tile, g, block, part, x, copied, weight, rows, packed, start, relu, y,
    origins, places, runs, coverings, lengths,
):  # fmt: skip
    image, row, which, group = block[0], block[2], block[4], block[5]
    if not g.copies:
        source = x
        base = ((image * g.height + row * g.stride + g.top) * g.width + g.left) * g.channels
    elif block[7] >= 0:
        source = copied
        base = block[7]
    else:
        source = np.empty(g.scratch, x.dtype)
        copy_block(g, x, block, 0, 1, source, 0)
        base = 0
    target = g.out + image * g.image_step + row * g.row_step + group * g.filters
    least = x.dtype.type(0 if relu else -np.inf)
    size = g.panel * g.taps
    ahead = g.packed >= 0
    own = packed if ahead else _aligned(size, x)
    for panel in range(part * g.share, min((part + 1) * g.share, g.panels)):
        at = g.packed + (group * g.panels + panel) * size if ahead else 0
        if not ahead:
            pack(tile, g, weight, rows, group, panel, own, 0)
        begin = (group * g.panels + panel) * g.panel
        columns = min(g.panel, g.filters - panel * g.panel)
        shape = 0 if columns <= g.lanes else g.ranks
        for i in range(lengths[which]):
            multiply_tile(
                tile, shape + coverings[which, i, 1], source, origins, coverings[which, i, 0],
                base, runs, g.run, own, at, start, begin, least, columns,
                y, places, target + panel * g.panel,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _geometry(numbers):
    return Geometry(*to_fixed_tuple(numbers, FIELDS))


@njit(cache=True, nogil=True)
def _aligned(size, like):
    """Room that starts at a cache line, so that no vector lies across two of them."""
    room = np.empty(size + 64 // like.itemsize, like.dtype)
    first = -room.ctypes.data % 64 // like.itemsize
    return room[first : first + size]


_KERNEL = Kernel(_kernel)
