"""The sequential baseline: the plain nested loops, compiled by Numba on one thread.

Sums run in the input's own dtype, from left to right.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arrays import Array
from kernels.linear.operator import Call, Gradients, LinearAlgorithm


class Loops(LinearAlgorithm):
    """linear as its definition reads."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output` [N, O]."""
        bias = np.zeros(output.shape[1], output.dtype) if call.bias is None else call.bias
        _forward(call.input, call.weight, bias, output)

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill the gradients from the output's [N, O]."""
        if grads.input is not None:
            _grad_input(grad_output, call.weight, grads.input)
        if grads.weight is not None:
            _grad_weight(grad_output, call.input, grads.weight)
        if grads.bias is not None:
            _grad_bias(grad_output, grads.bias)


@njit(cache=True, nogil=True)
def _forward(x, w, b, y):
    for n in range(y.shape[0]):
        for o in range(y.shape[1]):
            total = b[o]
            for i in range(x.shape[1]):
                total += x[n, i] * w[o, i]
            y[n, o] = total


@njit(cache=True, nogil=True)
def _grad_input(gy, w, gx):
    for n in range(gx.shape[0]):
        for i in range(gx.shape[1]):
            total = gx.dtype.type(0)
            for o in range(gy.shape[1]):
                total += gy[n, o] * w[o, i]
            gx[n, i] = total


@njit(cache=True, nogil=True)
def _grad_weight(gy, x, gw):
    for o in range(gw.shape[0]):
        for i in range(gw.shape[1]):
            total = gw.dtype.type(0)
            for n in range(gy.shape[0]):
                total += gy[n, o] * x[n, i]
            gw[o, i] = total


@njit(cache=True, nogil=True)
def _grad_bias(gy, gb):
    for o in range(gb.shape[0]):
        total = gb.dtype.type(0)
        for n in range(gy.shape[0]):
            total += gy[n, o]
        gb[o] = total
