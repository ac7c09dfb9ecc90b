"""What a task of a weight's gradient does: packs a block's pixels, then tile after tile of sums.

Memory holds a pixel's channels together, a sum runs over pixels: read as they lie, a tile's numbers
are a row of channels apart, in few sets of the first cache. So a block is packed once, into panels
as wide as a tile, and read there by all taps and tiles.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.conv2d.weight_tile import copy_columns, pixel_tile
from kernels.tiles import copy_numbers


@njit(cache=True, nogil=True)
def sum_chunk(
    tile, lanes, chunk, part, a, b, apart, size,
    cells, taps, a_side, a_cuts, a_rows, b_side, b_cuts, b_rows, packed, points, bounds, blocks,
    parts, steps,
):  # fmt: skip
    """One part's sums over one chunk's pixels, into `apart` [chunks, size]."""
    first_cell, end_cell, first_a, end_a, first_b, end_b = parts[part]
    a_room = _aligned(_room(a_side, max(1, end_a - first_a)), a)
    b_room = _aligned(_room(b_side, end_b - first_b) if packed else 0, b)
    own = cells[first_cell:end_cell]
    for block in range(blocks[chunk], blocks[chunk + 1]):
        fresh, at = block == blocks[chunk], chunk * size
        panels = _panel(a_side, block), _panel(b_side, block)
        if points is None:
            _pack(tile, lanes, a_side, block, a, a_cuts[first_a:end_a], a_room)
        else:
            _pad(a_side, block, a, a_room)
        # What is not packed is read where it lies.
        if packed:
            _pack(tile, lanes, b_side, block, b, b_cuts[first_b:end_b], b_room)
            _sum_block(
                tile, own, taps, a_room, a_rows, first_a, panels[0], b_room, b_rows, first_b,
                panels[1], points, bounds, block, fresh, apart, at, steps,
            )  # fmt: skip
        else:
            _sum_block(
                tile, own, taps, a_room, a_rows, first_a, panels[0], b, b_rows, first_b,
                panels[1], points, bounds, block, fresh, apart, at, steps,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _sum_block(
    tile, cells, taps, a, a_rows, first_a, a_panel, b, b_rows, first_b, b_panel, points, bounds,
    block, fresh, sums, sums_at, steps,
):  # fmt: skip
    a_step, b_step, sums_step = steps
    for cell in range(len(cells)):
        shape, own_a, point, own_b, at, columns = cells[cell]
        a_at, b_at = (own_a - first_a) * a_panel, (own_b - first_b) * b_panel
        for tap in range(len(taps)):
            r, length, a_begin, b_begin, weight = taps[tap]
            pixel_tile(
                tile, shape, a, a_rows, a_at + a_begin, a_step, points, point,
                b, b_rows, b_at + b_begin, b_step, bounds[r, block], bounds[r, block + 1],
                length, fresh, sums, sums_at + at + weight, sums_step, columns,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def add_chunks(apart, size, chunks, begin, sums):
    """Fill `sums` with those of all chunks, from `begin` on in each."""
    copy_numbers(apart, begin, sums, 0, len(sums))
    for chunk in range(1, chunks):
        own = apart[chunk * size + begin :]
        for i in range(len(sums)):
            sums[i] += own[i]


@njit(cache=True, nogil=True)
def _pack(tile, lanes, side, block, source, cuts, target):
    """Some columns of each pixel of a block's rows, into a panel for each cut.

    Whole vectors are copied: what is behind a pixel's columns is overwritten or not used.
    """
    begin = side.bounds[block]
    step = _panel(side, block)
    vectors = -(-side.width // lanes)
    for i in range(begin, side.bounds[block + 1]):
        row = side.reads[i] * side.row + side.first
        there = (i - begin) * side.pixels * side.width
        for cut in range(len(cuts)):
            here, to = row + cuts[cut, 0], there + cut * step
            # Pixels whose vectors end within the source.
            room = len(source) - (here + vectors * lanes)
            whole = min(side.pixels, room // side.pixel + 1) if room >= 0 else 0
            copy_columns(tile, source, here, side.pixel, target, to, side.width, vectors, whole)
            for j in range(whole, side.pixels):
                for k in range(cuts[cut, 1]):
                    target[to + j * side.width + k] = source[here + j * side.pixel + k]


@njit(cache=True, nogil=True)
def _pad(side, block, source, target):
    """A block's rows whole, with the zeros around them."""
    begin = side.bounds[block]
    for i in range(begin, side.bounds[block + 1]):
        to = (i - begin) * (side.pixels * side.width)
        read = side.reads[i]
        target[to : to + (side.pixels * side.width)] = 0
        if read >= 0:
            copy_numbers(source, read * side.row, target, to + side.first, side.row)


@njit(cache=True, nogil=True)
def _panel(side, block):
    """From one panel of a block to the next: its numbers, and room for the end of a vector."""
    return (side.bounds[block + 1] - side.bounds[block]) * (side.pixels * side.width) + 16


@njit(cache=True, nogil=True)
def _room(side, count):
    """How many numbers so many panels of a block have at most."""
    most = 0
    for block in range(len(side.bounds) - 1):
        most = max(most, _panel(side, block))
    return count * most


@njit(cache=True, nogil=True)
def _aligned(size, like):
    room = np.empty(size + 64 // like.itemsize, like.dtype)
    first = -room.ctypes.data % 64 // like.itemsize
    return room[first : first + size]
