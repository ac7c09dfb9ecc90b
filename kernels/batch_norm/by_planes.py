"""Kernels over planes [N, C, L]: a task is some channels, so that nothing has to be put together.

A channel is swept for its sum, for what needs the mean, and for the result; from the second time on
it comes from the cache. Sums run in float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.compiled import Kernel, tasks_for

GRAIN = 1 << 13
"""Elements of a task; fewer than eight such are done before a second thread would have started."""


def _training_source(tasks, x, weight, bias, eps, y, stats):
    batch, channels, length = x.shape
    for task in prange(tasks):
        constants = np.empty(3, x.dtype)
        for c in range(channels * task // tasks, channels * (task + 1) // tasks):
            total = 0.0
            for n in range(batch):
                total += _sum(x[n, c])
            mean = total / (batch * length)
            squares = 0.0
            for n in range(batch):
                squares += _squares(x[n, c], mean)
            var = squares / (batch * length)
            stats[0, c] = mean
            stats[1, c] = var
            _set_forward(mean, var, weight[c], bias[c], eps, constants)
            if y.size:
                for n in range(batch):
                    _scale_and_shift(x[n, c], constants[0], constants[1], constants[2], y[n, c])


def _inference_source(tasks, x, mean, var, weight, bias, eps, y):
    batch, channels, length = x.shape
    constants = np.empty((channels, 3), x.dtype)
    for c in range(channels):
        _set_forward(mean[c], var[c], weight[c], bias[c], eps, constants[c])
    given, result = x.reshape(-1), y.reshape(-1)
    for task in prange(tasks):
        first, last = batch * channels * task // tasks, batch * channels * (task + 1) // tasks
        c = first % channels
        for plane in range(first, last):
            begin, end = plane * length, (plane + 1) * length
            own, out = given[begin:end], result[begin:end]
            _scale_and_shift(own, constants[c, 0], constants[c, 1], constants[c, 2], out)
            c = 0 if c + 1 == channels else c + 1


def _gradients_source(tasks, gy, x, mean, r, weight, of_batch, gx, sums):
    batch, channels, length = x.shape
    for task in prange(tasks):
        constants = np.empty(4, x.dtype)
        for c in range(channels * task // tasks, channels * (task + 1) // tasks):
            sum_gy = dot = 0.0
            for n in range(batch):
                plane_sum, plane_dot = _products(gy[n, c], x[n, c], mean[c])
                sum_gy += plane_sum
                dot += plane_dot
            sums[0, c] = dot * r[c]
            sums[1, c] = sum_gy
            if gx.size:
                _set_backward(mean[c], r[c], weight[c], dot, sum_gy, batch * length, constants)
                for n in range(batch):
                    if of_batch:
                        _grad_input(gy[n, c], x[n, c], constants, gx[n, c])
                    else:
                        _scale(gy[n, c], constants[1], gx[n, c])


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _sum(x):
    total = 0.0
    for i in range(x.size):
        total += x[i]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _squares(x, mean):
    total = 0.0
    for i in range(x.size):
        total += (x[i] - mean) * (x[i] - mean)
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _products(gy, x, mean):
    total = dot = 0.0
    for i in range(x.size):
        total += gy[i]
        dot += gy[i] * (x[i] - mean)
    return total, dot


@njit(cache=True, nogil=True, error_model="numpy")
def _set_forward(mean, var, weight, bias, eps, constants):
    factor = weight / np.sqrt(np.float64(var) + eps)
    constants[0] = mean
    # Where the mean is infinite nothing is left of it
    left = mean - constants[0] if mean != constants[0] else 0.0
    constants[1] = factor
    constants[2] = bias - left * factor


@njit(cache=True, nogil=True, error_model="numpy")
def _set_backward(mean, r, weight, dot, sum_gy, count, constants):
    """gx = factor (gy - sum_gy / count - (x - mean) r^2 dot / count)."""
    factor = weight * r
    slope = factor * r * r * dot / count
    constants[0] = mean
    left = mean - constants[0] if mean != constants[0] else 0.0
    constants[1] = factor
    constants[2] = slope
    constants[3] = factor * sum_gy / count - left * slope


@njit(cache=True, nogil=True, fastmath={"contract"})
def _scale_and_shift(x, mean, factor, shift, y):
    for i in range(x.size):
        y[i] = (x[i] - mean) * factor + shift


@njit(cache=True, nogil=True, fastmath={"contract"})
def _grad_input(gy, x, constants, gx):
    mean, factor, slope, shift = constants[0], constants[1], constants[2], constants[3]
    for i in range(x.size):
        gx[i] = gy[i] * factor - ((x[i] - mean) * slope + shift)


@njit(cache=True, nogil=True)
def _scale(gy, factor, gx):
    for i in range(gy.size):
        gx[i] = gy[i] * factor


training = Kernel(_training_source)
inference = Kernel(_inference_source)
gradients = Kernel(_gradients_source)


def tasks(shape: tuple[int, ...]) -> int:
    """No more than there are channels."""
    return min(shape[1], tasks_for(shape[0] * shape[1] * shape[2], GRAIN))
