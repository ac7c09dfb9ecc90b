"""The sequential baseline: the plain nested loops, compiled by Numba on one thread.

Mean first, then the variance around it, both in float64, from left to right.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arrays import Array
from kernels.batch_norm.operator import BatchNormAlgorithm, Call, Gradients
from kernels.batch_norm.statistics import bias_of, planes, update_running, weight_of


class Loops(BatchNormAlgorithm):
    """batch_norm as its definition reads."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`; update the running statistics in training."""
        mean, var = _statistics_of(call)
        if call.training:
            update_running(call, mean, var)
        x, y = planes(call.input), planes(output)
        _forward(x, mean, var, weight_of(call), bias_of(call), call.eps, y)

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill the gradients."""
        gy, x = planes(grad_output), planes(call.input)
        mean, var = _statistics_of(call)
        gw, gb = np.zeros(mean.size), np.zeros(mean.size)
        _grad_parameters(gy, x, mean, var, call.eps, gw, gb)
        if grads.weight is not None:
            grads.weight[...] = gw
        if grads.bias is not None:
            grads.bias[...] = gb
        if grads.input is not None:
            rest = (mean, var, weight_of(call), call.eps, call.training, gw, gb)
            _grad_input(gy, x, *rest, planes(grads.input))


def _statistics_of(call: Call) -> tuple[Array, Array]:
    if not call.training:
        assert call.running_mean is not None
        assert call.running_var is not None
        return call.running_mean.astype(np.float64), call.running_var.astype(np.float64)
    mean, var = np.zeros((2, call.input.shape[1]))
    _statistics(planes(call.input), mean, var)
    return mean, var


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
def _grad_parameters(gy, x, mean, var, eps, gw, gb):
    for c in range(x.shape[1]):
        for n in range(x.shape[0]):
            for i in range(x.shape[2]):
                gw[c] += gy[n, c, i] * (x[n, c, i] - mean[c])
                gb[c] += gy[n, c, i]
        gw[c] /= np.sqrt(var[c] + eps)


@njit(cache=True, nogil=True, error_model="numpy")
def _grad_input(gy, x, mean, var, weight, eps, training, gw, gb, gx):
    count = x.shape[0] * x.shape[2]
    for c in range(x.shape[1]):
        r = 1 / np.sqrt(var[c] + eps)
        for n in range(x.shape[0]):
            for i in range(x.shape[2]):
                own = np.float64(gy[n, c, i])
                if training:  # the mean and the variance depend on the input too
                    normal = (x[n, c, i] - mean[c]) * r
                    own -= gb[c] / count + normal * gw[c] / count
                gx[n, c, i] = own * r * weight[c]
