"""The sequential baseline: the plain nested loops, compiled by Numba on one thread.

Any stride, dilation, group, memory; sums run in the input's own dtype, from left to right.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arrays import Array
from kernels.conv2d.operator import Call, Gradients


class Loops:
    """conv2d as its definition reads."""

    threaded = False

    def unavailable_reason(self) -> str | None:
        """None: Numba runs wherever this package does."""
        return None

    def unsupported(self, call: Call) -> str | None:  # noqa: ARG002
        """None: it does all calls."""
        return None

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output` [N, K, P, Q]."""
        bias = np.zeros(call.shape[1], output.dtype) if call.bias is None else call.bias
        _forward(
            call.input,
            call.weight,
            bias,
            call.stride,
            call.before,
            call.dilation,
            call.groups,
            output,
        )

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill the gradients, from the output's [N, K, P, Q]."""
        geometry = (call.stride, call.before, call.dilation, call.groups)
        if grads.input is not None:
            grads.input.fill(0)
            _grad_input(grad_output, call.weight, *geometry, grads.input)
        if grads.weight is not None:
            grads.weight.fill(0)
            _grad_weight(grad_output, call.input, *geometry, grads.weight)
        if grads.bias is not None:
            _grad_bias(grad_output, grads.bias)


@njit(cache=True, nogil=True)
def _forward(x, w, b, stride, before, dilation, groups, y):
    filters, depth, rows, columns = w.shape
    for n in range(y.shape[0]):
        for k in range(filters):
            first = k // (filters // groups) * depth
            for p in range(y.shape[2]):
                for q in range(y.shape[3]):
                    total = b[k]
                    for c in range(depth):
                        for r in range(rows):
                            i = p * stride[0] - before[0] + r * dilation[0]
                            if 0 <= i < x.shape[2]:
                                for s in range(columns):
                                    j = q * stride[1] - before[1] + s * dilation[1]
                                    if 0 <= j < x.shape[3]:
                                        total += x[n, first + c, i, j] * w[k, c, r, s]
                    y[n, k, p, q] = total


@njit(cache=True, nogil=True)
def _grad_input(gy, w, stride, before, dilation, groups, gx):
    filters, depth, rows, columns = w.shape
    for n in range(gy.shape[0]):
        for k in range(filters):
            first = k // (filters // groups) * depth
            for p in range(gy.shape[2]):
                for q in range(gy.shape[3]):
                    for c in range(depth):
                        for r in range(rows):
                            i = p * stride[0] - before[0] + r * dilation[0]
                            if 0 <= i < gx.shape[2]:
                                for s in range(columns):
                                    j = q * stride[1] - before[1] + s * dilation[1]
                                    if 0 <= j < gx.shape[3]:
                                        gx[n, first + c, i, j] += gy[n, k, p, q] * w[k, c, r, s]


@njit(cache=True, nogil=True)
def _grad_weight(gy, x, stride, before, dilation, groups, gw):
    filters, depth, rows, columns = gw.shape
    for n in range(gy.shape[0]):
        for k in range(filters):
            first = k // (filters // groups) * depth
            for p in range(gy.shape[2]):
                for q in range(gy.shape[3]):
                    for c in range(depth):
                        for r in range(rows):
                            i = p * stride[0] - before[0] + r * dilation[0]
                            if 0 <= i < x.shape[2]:
                                for s in range(columns):
                                    j = q * stride[1] - before[1] + s * dilation[1]
                                    if 0 <= j < x.shape[3]:
                                        gw[k, c, r, s] += gy[n, k, p, q] * x[n, first + c, i, j]


@njit(cache=True, nogil=True)
def _grad_bias(gy, gb):
    for k in range(gy.shape[1]):
        total = 0.0
        for n in range(gy.shape[0]):
            for p in range(gy.shape[2]):
                for q in range(gy.shape[3]):
                    total += gy[n, k, p, q]
        gb[k] = total
