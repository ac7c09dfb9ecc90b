"""[outer, classes, inner] in blocks that stay in the first cache, and their greatest elements.

    rows       inner is 1, SHORT classes or more: vectors run along a row
    columns    inner is more: vectors run across neighbouring columns, class after class
    turned     inner is 1, few classes: rows are turned into columns, and back

A block is one task's work. Every number comes out of the same operations in the same order
whatever the block's size, so that blocks and threads change no bit. Arrays are flat.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.exponential import rank, unrank, widest_vectors

SHORT = 48
"""Fewer classes than this are faster turned."""

BLOCK = 4096
"""About how many elements a block has: input and output fill less than the first cache."""

GRAIN = 32768
"""Elements from which on a second thread is worth its start."""


def block_width(outer: int, classes: int, inner: int) -> int:
    """How many rows (inner == 1) or columns a block has."""
    return min(max(BLOCK // classes, 1 if inner == 1 else 64), outer if inner == 1 else inner)


def blocks(outer: int, inner: int, width: int) -> int:
    """How many blocks of that width there are."""
    return -(-outer // width) if inner == 1 else outer * -(-inner // width)


@njit(cache=True, nogil=True)
def column_block(task, classes, inner, width):
    """Where the first element of a block of columns is, and how many columns it has."""
    blocks = -(-inner // width)
    outer, block = task // blocks, task % blocks
    return outer * classes * inner + block * width, min(width, inner - block * width)


@njit(cache=True, nogil=True)
def turn(a, b, rows, columns):
    """b = the transpose of a, [rows, columns], both flat."""
    for r in range(rows):
        row = a[r * columns : (r + 1) * columns]
        for c in range(columns):
            b[c * rows + r] = row[c]


@njit(cache=True, nogil=True)
def row_top(x):
    """The greatest of a row, or some NaN of it."""
    widest_vectors()
    top = rank(x.dtype.type(-np.inf))
    for c in range(x.size):
        own = rank(x[c])
        top = max(own, top)
    return unrank(top)


@njit(cache=True, nogil=True)
def column_tops(x, classes, step, tops):
    """The greatest of each of the first columns, or some NaN of it; `step` from class to class."""
    widest_vectors()
    for i in range(tops.size):
        tops[i] = x[i]
    for c in range(1, classes):
        row = x[c * step : c * step + tops.size]
        for i in range(tops.size):
            tops[i] = unrank(max(rank(row[i]), rank(tops[i])))
