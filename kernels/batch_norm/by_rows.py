"""Kernels over rows [R, C], channels innermost: a task is a block of rows.

A pass for the sums, whose blocks are put together in order, and one for the result.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.batch_norm.row_sums import line_of, moments, products, put_together, repeat
from kernels.compiled import Kernel
from kernels.lanes import lanes_of, load, minus, multiply_add, prefetch_for_write, store

BLOCK = 1 << 16
"""Elements of a block."""
AHEAD = 512
"""Numbers between the one that is written and the one whose cache line is asked for."""


def _statistics_source(tasks, x, stats, lanes):
    rows, channels = x.shape
    parts = np.empty((tasks, 2, channels))
    for task in prange(tasks):
        begin, end = rows * task // tasks, rows * (task + 1) // tasks
        moments(x[begin:end], parts[task], lanes)
    put_together(rows, parts)
    for c in range(channels):
        stats[0, c] = parts[0, 0, c] / rows
        stats[1, c] = parts[0, 1, c] / rows


def _normalise_source(tasks, x, mean, var, weight, bias, eps, y, lanes):
    rows, channels = x.shape
    constants = np.empty((3, line_of(channels)), x.dtype)
    _set_forward(mean, var, weight, bias, eps, constants)
    for task in prange(tasks):
        begin, end = rows * task // tasks, rows * (task + 1) // tasks
        _scale_and_shift(x[begin:end].reshape(-1), constants, y[begin:end].reshape(-1), lanes)


def _gradients_source(tasks, gy, x, mean, r, weight, of_batch, gx, sums, lanes):
    rows, channels = x.shape
    around = np.empty(line_of(channels), x.dtype)
    around[:channels] = mean
    repeat(around, channels)
    parts = np.empty((tasks, 2, channels))
    for task in prange(tasks):
        begin, end = rows * task // tasks, rows * (task + 1) // tasks
        products(gy[begin:end].reshape(-1), x[begin:end].reshape(-1), around, parts[task], lanes)
    sums[:] = 0
    for task in range(tasks):
        for c in range(channels):
            sums[0, c] += parts[task, 0, c]
            sums[1, c] += parts[task, 1, c]
    constants = np.empty((4, around.size), x.dtype)
    _set_backward(rows, mean, r, weight, of_batch, sums, constants)
    if gx.size:
        for task in prange(tasks):
            begin, end = rows * task // tasks, rows * (task + 1) // tasks
            grad, result = gy[begin:end].reshape(-1), gx[begin:end].reshape(-1)
            if of_batch:
                _grad_input(grad, x[begin:end].reshape(-1), constants, result)
            else:
                _scale(grad, constants[1], result)


@njit(cache=True, nogil=True, error_model="numpy")
def _set_forward(mean, var, weight, bias, eps, constants):
    for c in range(mean.size):
        factor = weight[c] / np.sqrt(np.float64(var[c]) + eps)
        constants[0, c] = mean[c]
        # Where the mean is infinite nothing is left of it
        left = mean[c] - constants[0, c] if mean[c] != constants[0, c] else 0.0
        constants[1, c] = factor
        constants[2, c] = bias[c] - left * factor
    for line in range(3):
        repeat(constants[line], mean.size)


@njit(cache=True, nogil=True, error_model="numpy")
def _set_backward(rows, mean, r, weight, of_batch, sums, constants):
    """gx = factor (gy - sum_gy / rows - (x - mean) r^2 dot / rows), of a batch's own statistics.

    From sums of gy (x - mean as the dtype holds it) and of gy; sums [0] becomes the weight's
    gradient.
    """
    for c in range(mean.size):
        rounded = constants.dtype.type(mean[c])
        dot, sum_gy, factor = sums[0, c], sums[1, c], weight[c] * r[c]
        left = 0.0
        if mean[c] != rounded:  # where the mean is infinite nothing is left of it
            left = mean[c] - rounded
            dot -= left * sum_gy
        slope = factor * r[c] * r[c] * dot / rows if of_batch else 0.0
        sums[0, c] = dot * r[c]
        constants[0, c] = rounded
        constants[1, c] = factor
        constants[2, c] = slope
        constants[3, c] = factor * sum_gy / rows - left * slope
    for line in range(4):
        repeat(constants[line], mean.size)


@njit(cache=True, nogil=True)
def _scale_and_shift(x, constants, y, lanes):
    mean, factor, shift = constants[0], constants[1], constants[2]
    width = mean.size
    for first in range(0, x.size, width):
        length = min(width, x.size - first)
        for i in range(0, length, lanes):
            at, live = first + i, length - i
            prefetch_for_write(y, at + AHEAD)
            apart = minus(load(x, at, live), load(mean, i, live))
            store(y, at, live, multiply_add(apart, load(factor, i, live), load(shift, i, live)))


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


_statistics = Kernel(_statistics_source)
_normalise = Kernel(_normalise_source)
_gradients = Kernel(_gradients_source)


def training(threaded, threads, tasks, x, weight, bias, eps, y, stats) -> None:
    """Fill `stats` [2, C], mean and biased variance, and `y` where it has room."""
    lanes = lanes_of(x.dtype)
    _statistics(threaded, threads, tasks, x, stats, lanes)
    if y.size:
        _normalise(threaded, threads, tasks, x, *stats, weight, bias, eps, y, lanes)


def inference(threaded, threads, tasks, x, mean, var, weight, bias, eps, y) -> None:
    """Fill `y`."""
    _normalise(threaded, threads, tasks, x, mean, var, weight, bias, eps, y, lanes_of(x.dtype))


def gradients(threaded, threads, tasks, gy, x, mean, r, weight, of_batch, gx, sums) -> None:
    """Fill `sums` [2, C], the gradients of weight and bias, and `gx` where it has room."""
    rest = (weight, of_batch, gx, sums, lanes_of(x.dtype))
    _gradients(threaded, threads, tasks, gy, x, mean, r, *rest)


def tasks(shape: tuple[int, ...]) -> int:
    """One for each block; every block has a row, for it has a mean."""
    return min(shape[0], max(1, shape[0] * shape[1] // BLOCK))
