"""A planned convolution, run: panels packed, blocks copied, tile after tile of sums."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.arrays import Array
from kernels.compiled import Kernel
from kernels.conv2d.packing import copy_block, pack
from kernels.conv2d.plans import Plan
from kernels.simd import Tile, aligned_empty
from kernels.tiles import multiply_tile

SLABS = 8
"""Into how many parts the copy of a block is cut that several tasks share."""


def convolve(
    tile: Tile,
    plan: Plan,
    x: Array,
    weight: Array,
    rows: Array,
    bias: Array | None,
    y: Array,
    *,
    threaded: bool,
    threads: int | None,
    relu: bool = False,
) -> None:
    """Fill `y` as the plan says, all arrays flat; `weight` and `rows` as `packing.pack` takes them.

    With `relu` what is negative becomes 0.
    """
    g = plan.geometry
    columns = g.groups * g.panels * g.panel
    if bias is not None and bias.size == columns:
        start = np.ascontiguousarray(bias)
    else:
        start = np.zeros(columns, x.dtype)
        if bias is not None:
            start.reshape(g.groups, -1)[:, : g.filters] = bias.reshape(g.groups, -1)
    # One block: each panel is read by one task, which packs it where its cache is.
    packed = aligned_empty(columns * g.taps if len(plan.blocks) > 1 else 0, x.dtype)
    parts = len(plan.blocks) * g.groups
    shared = g.copies and g.split > 1
    copied = np.empty(parts * g.scratch if shared else 0, x.dtype)
    least = x.dtype.type(0 if relu else -np.inf)
    _KERNEL(
        threaded, threads, parts * g.split, tile, g, x, copied, weight, rows, packed, start,
        least, y, plan.blocks, plan.origins, plan.places, plan.runs, plan.coverings,
        plan.lengths,
    )  # fmt: skip


def _kernel(
    tasks, tile, g, x, copied, weight, rows, packed, start, least, y,
    blocks, origins, places, runs, coverings, lengths,
):  # fmt: skip
    if len(packed):
        for i in prange(g.groups * g.panels):
            pack(tile, g, weight, rows, i // g.panels, i % g.panels, packed, i * g.panel * g.taps)
    if len(copied):
        for i in prange(len(blocks) * g.groups * SLABS):
            number = i // SLABS
            block = blocks[number // g.groups]
            at = number * g.scratch
            copy_block(g, x, block, number % g.groups, i % SLABS, SLABS, copied, at)
    for i in prange(tasks):
        _task(
            tile, g, x, copied, weight, rows, packed, start, least, y, blocks, i // g.split,
            i % g.split, origins, places, runs, coverings, lengths,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _task(
    tile, g, x, copied, weight, rows, packed, start, least, y,
    blocks, number, part, origins, places, runs, coverings, lengths,
):  # fmt: skip
    block = blocks[number // g.groups]
    group = number % g.groups
    image, _, row, _, which = block
    if not g.copies:
        source = x
        base = ((image * g.height + row * g.stride + g.top) * g.width + g.left) * g.channels
    elif len(copied):
        source = copied
        base = number * g.scratch
    else:
        source = np.empty(g.scratch, x.dtype)
        copy_block(g, x, block, group, 0, 1, source, 0)
        base = 0
    target = image * g.image_step + row * g.row_step + group * g.filters
    size = g.panel * g.taps
    panels = packed if len(packed) else _aligned(size, x)
    for panel in range(part * g.share, min((part + 1) * g.share, g.panels)):
        at = (group * g.panels + panel) * size if len(packed) else 0
        if not len(packed):
            pack(tile, g, weight, rows, group, panel, panels, 0)
        begin = (group * g.panels + panel) * g.panel
        columns = min(g.panel, g.filters - panel * g.panel)
        shape = 0 if columns <= g.lanes else g.ranks
        for i in range(lengths[which]):
            multiply_tile(
                tile, shape + coverings[which, i, 1], source, origins, coverings[which, i, 0],
                base, runs, g.run, panels, at, start, begin, least, columns,
                y, places, target + panel * g.panel,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _aligned(size, like):
    room = np.empty(size + 64 // like.itemsize, like.dtype)
    first = -room.ctypes.data % 64 // like.itemsize
    return room[first : first + size]


_KERNEL = Kernel(_kernel, chunk=1)  # whoever is free takes the next task
