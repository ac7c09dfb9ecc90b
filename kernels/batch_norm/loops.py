"""The sequential baseline: the plain nested loops, compiled by Numba on one thread.

Mean first, then the variance around it, both in float64, from left to right.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arrays import Array
from kernels.batch_norm.operator import BatchNormAlgorithm, Call, Gradients, Saved
from kernels.batch_norm.statistics import bias_of, keep, mean_and_invstd, planes, weight_of


class Loops(BatchNormAlgorithm):
    """batch_norm as its definition reads."""

    def forward(
        self,
        call: Call,
        output: Array,
        saved: Saved | None,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `output` and `saved`; update the running statistics in training."""
        stats = _statistics_of(call)
        if call.training:
            keep(call, stats, saved)
        x, y = planes(call.input), planes(output)
        _forward(x, *stats, weight_of(call), bias_of(call), call.eps, y)

    def backward(
        self,
        call: Call,
        saved: Saved | None,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill the gradients."""
        gy, x = planes(grad_output), planes(call.input)
        stats = _statistics_of(call) if saved is None else np.empty((2, x.shape[1]))
        mean, r = mean_and_invstd(call, saved, stats)
        gw, gb = np.zeros(mean.size), np.zeros(mean.size)
        _grad_parameters(gy, x, mean, r, gw, gb)
        if grads.weight is not None:
            grads.weight[...] = gw
        if grads.bias is not None:
            grads.bias[...] = gb
        if grads.input is not None:
            rest = (mean, r, weight_of(call), call.training, gw, gb)
            _grad_input(gy, x, *rest, planes(grads.input))


def _statistics_of(call: Call) -> Array:
    """Mean and variance by which the output is normalised."""
    if not call.training:
        return np.array([call.running_mean, call.running_var], np.float64)
    stats = np.zeros((2, call.input.shape[1]))
    _statistics(planes(call.input), *stats)
    return stats


@njit(cache=True, nogil=True, error_model="numpy")
def _statistics(x, mean, var):
    count = x.shape[0] * x.shape[2]
    for c in range(x.shape[1]):
        for n in range(x.shape[0]):
            for i in range(x.shape[2]):
                mean[c] += x[n, c, i]
        mean[c] /= count
        for n in range(x.shape[0]):
            for i in range(x.shape[2]):
                var[c] += (x[n, c, i] - mean[c]) ** 2
        var[c] /= count


@njit(cache=True, nogil=True, error_model="numpy")
def _forward(x, mean, var, weight, bias, eps, y):
    for c in range(x.shape[1]):
        factor = weight[c] / np.sqrt(var[c] + eps)
        for n in range(x.shape[0]):
            for i in range(x.shape[2]):
                y[n, c, i] = (x[n, c, i] - mean[c]) * factor + bias[c]


@njit(cache=True, nogil=True, error_model="numpy")
def _grad_parameters(gy, x, mean, r, gw, gb):
    for c in range(x.shape[1]):
        for n in range(x.shape[0]):
            for i in range(x.shape[2]):
                gw[c] += gy[n, c, i] * (x[n, c, i] - mean[c])
                gb[c] += gy[n, c, i]
        gw[c] *= r[c]


@njit(cache=True, nogil=True, error_model="numpy")
def _grad_input(gy, x, mean, r, weight, training, gw, gb, gx):
    count = x.shape[0] * x.shape[2]
    for c in range(x.shape[1]):
        for n in range(x.shape[0]):
            for i in range(x.shape[2]):
                own = np.float64(gy[n, c, i])
                if training:  # the mean and the variance depend on the input too
                    normal = (x[n, c, i] - mean[c]) * r[c]
                    own -= gb[c] / count + normal * gw[c] / count
                gx[n, c, i] = own * r[c] * weight[c]
