"""Sums over rows [R, C], channels innermost, in vectors along the row.

Short rows are taken together as one line of `width` numbers, a multiple of C about as long as
WIDTH. What is summed is added CHAIN lines at a time in vectors of the input's dtype, and those sums
in float64: a sum is off by at most 6 u of the sum of what was added, in its size.

Mean and variance come from one pass. What is added are the differences from the mean of the rows
just before, and their squares, so that no mean far from zero cancels: rows that lie far from those
before them add to the variance themselves, so that all squares together are at most five times what
the variance is made of, whatever the data.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.exponential import widest_vectors
from kernels.lanes import fill, load, minus, multiply_add, plus, store, times

WIDTH = 256
CHAIN = 32
"""Rows whose sums are rounded to the input's dtype."""


@njit(cache=True, nogil=True)
def line_of(channels):
    """How many numbers a line has: of one row, or of several short ones."""
    return channels * max(1, WIDTH // channels)


@njit(cache=True, nogil=True)
def repeat(line, channels):
    """Fill a line with what its first `channels` numbers are."""
    for i in range(channels, line.size):
        line[i] = line[i - channels]


@njit(cache=True, nogil=True)
def _fold(wide, sums):
    """Add the lines' repetitions of the channels."""
    channels = sums.shape[1]
    sums[:] = 0
    for line in range(sums.shape[0]):
        for first in range(0, wide.shape[1], channels):
            for c in range(channels):
                sums[line, c] += wide[line, first + c]


@njit(cache=True, nogil=True, error_model="numpy")
def moments(x, sums, lanes):
    """sums [2, C]: of a block's rows x, and of the squares of their distances from their mean."""
    rows, channels = x.shape
    width = line_of(channels)
    given = x.reshape(-1)
    origin, centre = np.empty(width), np.empty(width, x.dtype)
    for i in range(channels):
        centre[i] = _finite(given[i], x.dtype.type(0))
    repeat(centre, channels)
    origin[:] = centre
    wide, part = np.zeros((2, width)), np.empty((2, width), x.dtype)
    first = begun = 0
    while first < given.size:
        count, length = min(CHAIN, (given.size - first) // width), width
        if count == 0:
            count, length = 1, given.size - first
        _add_moments(given, first, count, length, centre, part, lanes)
        _move(origin, centre, part, count, length, wide)
        if begun:
            first += count * length
        else:  # the first rows once more, around their own mean
            begun = 1
            wide[:] = 0
    _fold(wide, sums)
    share = 1 / rows
    for c in range(channels):
        total = sums[0, c]
        sums[0, c] += rows * origin[c]
        sums[1, c] -= total * total * share


@njit(cache=True, nogil=True)
def _add_moments(x, first, rows, length, centre, part, lanes):
    """part [2, width]: sums of x - centre and its square over rows, of each the first `length`."""
    width = centre.size
    for i in range(0, length, lanes):
        live, at = length - i, first + i
        around = load(centre, i, live)
        total = squares = fill(x, 0.0)
        for _ in range(rows // 4):
            a = minus(load(x, at, live), around)
            b = minus(load(x, at + width, live), around)
            c = minus(load(x, at + 2 * width, live), around)
            d = minus(load(x, at + 3 * width, live), around)
            total = plus(total, plus(plus(a, b), plus(c, d)))
            both = multiply_add(a, a, times(b, b)), multiply_add(c, c, times(d, d))
            squares = plus(squares, plus(both[0], both[1]))
            at += 4 * width
        for _ in range(rows % 4):
            a = minus(load(x, at, live), around)
            total = plus(total, a)
            squares = multiply_add(a, a, squares)
            at += width
        store(part[0], i, live, total)
        store(part[1], i, live, squares)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _move(origin, centre, part, rows, length, wide):
    """Add sums around `centre` to those around `origin`; their mean is the next centre."""
    widest_vectors()
    totals, squares = part[0], part[1]
    all_totals, all_squares = wide[0], wide[1]
    count, share = np.float64(rows), centre.dtype.type(1 / rows)
    for i in range(length):
        apart, total = centre[i] - origin[i], np.float64(totals[i])
        both = count * apart + total
        all_totals[i] += both
        all_squares[i] += apart * (both + total) + squares[i]
        centre[i] = _finite(centre[i] + totals[i] * share, centre[i])


@njit(cache=True, nogil=True)
def _finite(value, otherwise):
    """`value`, or where it is infinite or NaN the other."""
    return value if abs(value) < np.inf else otherwise


@njit(cache=True, nogil=True, error_model="numpy")
def put_together(rows, parts):
    """Into parts[0], in order."""
    tasks, _, channels = parts.shape
    for task in range(1, tasks):
        before, after = rows * task // tasks, rows * (task + 1) // tasks
        of_own, of_all, factor = 1 / (after - before), 1 / before, before / after * (after - before)
        own, all_ = parts[task], parts[0]
        for c in range(channels):
            apart = own[0, c] * of_own - all_[0, c] * of_all
            all_[0, c] += own[0, c]
            all_[1, c] += own[1, c] + apart * apart * factor


@njit(cache=True, nogil=True)
def products(gy, x, around, sums, lanes):
    """sums [2, C]: of gy (x - around), and of gy."""
    width = around.size
    wide, part = np.zeros((2, width)), np.empty((2, width), x.dtype)
    whole = x.size // width * width
    for first in range(0, whole, CHAIN * width):
        rows = min(CHAIN, (whole - first) // width)
        _add_products(gy, x, first, rows, width, around, part, lanes)
        wide += part
    if whole < x.size:
        part[:] = 0
        _add_products(gy, x, whole, 1, x.size - whole, around, part, lanes)
        wide += part
    _fold(wide, sums)


@njit(cache=True, nogil=True)
def _add_products(gy, x, first, rows, length, around, part, lanes):
    """part [2, width]: sums of gy (x - around) and gy over rows, of each the first `length`."""
    width = around.size
    for i in range(0, length, lanes):
        live, at = length - i, first + i
        mean = load(around, i, live)
        total = dot = fill(x, 0.0)
        for _ in range(rows // 4):
            a, b = load(gy, at, live), load(gy, at + width, live)
            c, d = load(gy, at + 2 * width, live), load(gy, at + 3 * width, live)
            total = plus(total, plus(plus(a, b), plus(c, d)))
            a = times(a, minus(load(x, at, live), mean))
            a = multiply_add(b, minus(load(x, at + width, live), mean), a)
            c = times(c, minus(load(x, at + 2 * width, live), mean))
            c = multiply_add(d, minus(load(x, at + 3 * width, live), mean), c)
            dot = plus(dot, plus(a, c))
            at += 4 * width
        for _ in range(rows % 4):
            a = load(gy, at, live)
            total = plus(total, a)
            dot = multiply_add(a, minus(load(x, at, live), mean), dot)
            at += width
        store(part[0], i, live, dot)
        store(part[1], i, live, total)
