"""Kernels over rows [R, C], channels innermost: a task is a block of rows that stays in the cache.

Short rows are taken together, as one of `width` elements, a multiple of C and at least 256 where
there are so many. A block is swept for its mean first, then for sums around that mean; the blocks
are put together in order. The results are a second pass.

`sums` holds, a line each: sum of x, sum of (x - mean)^2, and for gradients sum of gy,
sum of gy (x - mean), with the mean of all rows that were summed.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.compiled import Kernel

WIDTH = 256
BLOCK = 1 << 15
"""Elements of a block: its input, gradient and result fit in 512 KiB in float32."""


def _training_source(tasks, x, weight, bias, eps, y, stats):
    rows, channels = x.shape
    parts = np.empty((tasks, 2, channels))
    for task in prange(tasks):
        begin, end = rows * task // tasks, rows * (task + 1) // tasks
        _sum_up(x[begin:end], x[:0], parts[task])
    _put_together(rows, parts)
    constants = np.empty((3, _width(channels)), x.dtype)
    for c in range(channels):
        stats[0, c] = parts[0, 0, c] / rows
        stats[1, c] = parts[0, 1, c] / rows
    _set_forward(stats[0], stats[1], weight, bias, eps, constants)
    for task in prange(tasks):
        begin, end = rows * task // tasks, rows * (task + 1) // tasks
        _scale_and_shift(x[begin:end].reshape(-1), constants, y[begin:end].reshape(-1))


def _inference_source(tasks, x, mean, var, weight, bias, eps, y):
    rows, channels = x.shape
    constants = np.empty((3, _width(channels)), x.dtype)
    _set_forward(mean, var, weight, bias, eps, constants)
    for task in prange(tasks):
        begin, end = rows * task // tasks, rows * (task + 1) // tasks
        _scale_and_shift(x[begin:end].reshape(-1), constants, y[begin:end].reshape(-1))


def _training_gradients_source(tasks, gy, x, weight, eps, gx, sums):
    rows, channels = x.shape
    parts = np.empty((tasks, 4, channels))
    for task in prange(tasks):
        begin, end = rows * task // tasks, rows * (task + 1) // tasks
        _sum_up(x[begin:end], gy[begin:end], parts[task])
    _put_together(rows, parts)
    constants = np.empty((4, _width(channels)), x.dtype)
    _set_backward(rows, parts[0], weight, eps, constants, sums)
    if gx.size:
        for task in prange(tasks):
            begin, end = rows * task // tasks, rows * (task + 1) // tasks
            _grad_input(
                gy[begin:end].reshape(-1),
                x[begin:end].reshape(-1),
                constants,
                gx[begin:end].reshape(-1),
            )


def _inference_gradients_source(tasks, gy, x, mean, var, weight, eps, gx, sums):
    rows, channels = x.shape
    width = _width(channels)
    around = np.empty(width)
    factor = np.empty(width, x.dtype)
    r = np.empty(channels)
    for c in range(channels):
        r[c] = 1 / np.sqrt(np.float64(var[c]) + eps)
    for i in range(width):
        around[i] = mean[i % channels]
        factor[i] = weight[i % channels] * r[i % channels]
    parts = np.empty((tasks, 3, channels))
    for task in prange(tasks):
        begin, end = rows * task // tasks, rows * (task + 1) // tasks
        part = np.zeros((3, width))
        grad = gy[begin:end].reshape(-1)
        _add_products(grad, x[begin:end].reshape(-1), around, part)
        _fold(part, parts[task])
        if gx.size:
            _scale(grad, factor, gx[begin:end].reshape(-1))
    sums[:] = 0
    for task in range(tasks):
        for c in range(channels):
            sums[0, c] += parts[task, 2, c] * r[c]
            sums[1, c] += parts[task, 1, c]


@njit(cache=True, nogil=True)
def _width(channels):
    return channels * max(1, WIDTH // channels)


@njit(cache=True, nogil=True, error_model="numpy")
def _sum_up(x, gy, sums):
    """Fill `sums` [2 or 4, C] from a block's rows x, and gy where there are any."""
    rows, channels = x.shape
    width = _width(channels)
    wide = np.zeros((sums.shape[0], width))
    _add(x.reshape(-1), wide[0])
    _fold(wide[:1], sums[:1])
    around = np.empty(width)
    for i in range(width):
        around[i] = sums[0, i % channels] / rows
    if gy.shape[0]:
        _add_products(gy.reshape(-1), x.reshape(-1), around, wide[1:])
    else:
        _add_squares(x.reshape(-1), around, wide[1])
    _fold(wide[1:], sums[1:])


@njit(cache=True, nogil=True, error_model="numpy")
def _put_together(rows, parts):
    """Into parts[0], in order."""
    tasks = parts.shape[0]
    for task in range(1, tasks):
        before, after = rows * task // tasks, rows * (task + 1) // tasks
        _merge(before, parts[0], after - before, parts[task])


@njit(cache=True, nogil=True, error_model="numpy")
def _merge(rows, sums, more, others):
    """Add what `more` rows gave to the sums over `rows`."""
    for c in range(sums.shape[1]):
        own, other = sums[0, c] / rows, others[0, c] / more
        sums[0, c] += others[0, c]
        mean = sums[0, c] / (rows + more)
        apart = other - own
        sums[1, c] += others[1, c] + apart * apart * (rows * (more / (rows + more)))
        if sums.shape[0] == 4:
            sums[3, c] += sums[2, c] * (own - mean)
            sums[3, c] += others[3, c] + others[2, c] * (other - mean)
            sums[2, c] += others[2, c]


@njit(cache=True, nogil=True)
def _fold(wide, sums):
    """Add the lines' repetitions of the channels."""
    channels = sums.shape[1]
    for line in range(sums.shape[0]):
        for c in range(channels):
            total = 0.0
            for i in range(c, wide.shape[1], channels):
                total += wide[line, i]
            sums[line, c] = total


@njit(cache=True, nogil=True)
def _add(x, sums):
    width = sums.size
    pairs = x.size // (2 * width) * 2 * width
    for first in range(0, pairs, 2 * width):
        above, below = x[first : first + width], x[first + width : first + 2 * width]
        for i in range(width):
            sums[i] += np.float64(above[i]) + below[i]
    for first in range(pairs, x.size, width):
        part = x[first : first + width]
        for i in range(part.size):
            sums[i] += part[i]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_squares(x, around, sums):
    width = sums.size
    pairs = x.size // (2 * width) * 2 * width
    for first in range(0, pairs, 2 * width):
        above, below = x[first : first + width], x[first + width : first + 2 * width]
        for i in range(width):
            one, two = above[i] - around[i], below[i] - around[i]
            sums[i] += one * one + two * two
    for first in range(pairs, x.size, width):
        part = x[first : first + width]
        for i in range(part.size):
            sums[i] += (part[i] - around[i]) * (part[i] - around[i])


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_products(gy, x, around, sums):
    squares, total, dot = sums[0], sums[1], sums[2]
    width = total.size
    pairs = x.size // (2 * width) * 2 * width
    for first in range(0, pairs, 2 * width):
        middle, end = first + width, first + 2 * width
        above, below = x[first:middle], x[middle:end]
        grad_above, grad_below = gy[first:middle], gy[middle:end]
        for i in range(width):
            one, two = above[i] - around[i], below[i] - around[i]
            a, b = np.float64(grad_above[i]), np.float64(grad_below[i])
            squares[i] += one * one + two * two
            total[i] += a + b
            dot[i] += a * one + b * two
    for first in range(pairs, x.size, width):
        part, grad = x[first : first + width], gy[first : first + width]
        for i in range(part.size):
            apart = part[i] - around[i]
            squares[i] += apart * apart
            total[i] += grad[i]
            dot[i] += grad[i] * apart


@njit(cache=True, nogil=True, error_model="numpy")
def _set_forward(mean, var, weight, bias, eps, constants):
    channels = mean.size
    for i in range(constants.shape[1]):
        c = i % channels
        factor = weight[c] / np.sqrt(np.float64(var[c]) + eps)
        constants[0, i] = mean[c]
        # Where the mean is infinite nothing is left of it
        left = mean[c] - constants[0, i] if mean[c] != constants[0, i] else 0.0
        constants[1, i] = factor
        constants[2, i] = bias[c] - left * factor


@njit(cache=True, nogil=True, error_model="numpy")
def _set_backward(rows, parts, weight, eps, constants, sums):
    """gx = factor (gy - sum_gy / rows - (x - mean) r^2 dot / rows)."""
    channels = parts.shape[1]
    for i in range(constants.shape[1]):
        c = i % channels
        mean, sum_gy, dot = parts[0, c] / rows, parts[2, c], parts[3, c]
        r = 1 / np.sqrt(parts[1, c] / rows + eps)
        factor = weight[c] * r
        slope = factor * r * r * dot / rows
        constants[0, i] = mean
        left = mean - constants[0, i] if mean != constants[0, i] else 0.0
        constants[1, i] = factor
        constants[2, i] = slope
        constants[3, i] = factor * sum_gy / rows - left * slope
        sums[0, c] = dot * r
        sums[1, c] = sum_gy


@njit(cache=True, nogil=True, fastmath={"contract"})
def _scale_and_shift(x, constants, y):
    mean, factor, shift = constants[0], constants[1], constants[2]
    width = mean.size
    for first in range(0, x.size, width):
        part, result = x[first : first + width], y[first : first + width]
        for i in range(part.size):
            result[i] = (part[i] - mean[i]) * factor[i] + shift[i]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _grad_input(gy, x, constants, gx):
    mean, factor, slope, shift = constants[0], constants[1], constants[2], constants[3]
    width = mean.size
    for first in range(0, x.size, width):
        part, grad = x[first : first + width], gy[first : first + width]
        result = gx[first : first + width]
        for i in range(part.size):
            result[i] = grad[i] * factor[i] - ((part[i] - mean[i]) * slope[i] + shift[i])


@njit(cache=True, nogil=True)
def _scale(gy, factor, gx):
    width = factor.size
    for first in range(0, gy.size, width):
        grad, result = gy[first : first + width], gx[first : first + width]
        for i in range(grad.size):
            result[i] = grad[i] * factor[i]


training = Kernel(_training_source)
inference = Kernel(_inference_source)
training_gradients = Kernel(_training_gradients_source)
inference_gradients = Kernel(_inference_gradients_source)


def tasks(shape: tuple[int, ...]) -> int:
    """One for each block; every block has a row, for it has a mean."""
    return min(shape[0], max(1, shape[0] * shape[1] // BLOCK))
