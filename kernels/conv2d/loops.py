"""The sequential baseline: the plain nested loops, compiled by Numba on one thread.

Any stride, dilation, group; sums run in the input's own dtype. The loops see channels-last memory,
where the innermost one walks over neighbours; other memory is copied before and after, so that one
compilation a dtype does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from kernels.arrays import Array, nhwc
from kernels.conv2d.operator import Call, Conv2dAlgorithm, Gradients


class Loops(Conv2dAlgorithm):
    """conv2d as its definition reads."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output` [N, K, P, Q]."""
        bias = np.zeros(call.shape[1], output.dtype) if call.bias is None else call.bias
        bias = np.ascontiguousarray(bias)
        _fill(output, _forward, nhwc(call.input), nhwc(call.weight), bias, *_geometry(call))

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill the gradients, from the output's [N, K, P, Q]."""
        given = nhwc(grad_output)
        if grads.input is not None:
            _fill(grads.input, _grad_input, given, nhwc(call.weight), *_geometry(call))
        if grads.weight is not None:
            _fill(grads.weight, _grad_weight, given, nhwc(call.input), *_geometry(call))
        if grads.bias is not None:
            _grad_bias(given, grads.bias)


def _geometry(call: Call) -> tuple[Any, ...]:
    return call.stride, call.before, call.dilation, call.groups


def _fill(result: Array, kernel: Callable[..., None], *arguments: Any) -> None:
    """Let `kernel` write [N, C, H, W] as C-contiguous [N, H, W, C]."""
    last = result.transpose(0, 2, 3, 1)
    if last.flags.c_contiguous:
        kernel(*arguments, last)
    else:
        room = np.empty(last.shape, last.dtype)
        kernel(*arguments, room)
        last[...] = room


@njit(cache=True, nogil=True)
def _forward(x, w, b, stride, before, dilation, groups, y):
    filters, rows, columns, depth = w.shape
    for n in range(y.shape[0]):
        for p in range(y.shape[1]):
            for q in range(y.shape[2]):
                for k in range(filters):
                    first = k // (filters // groups) * depth
                    total = b[k]
                    for r in range(rows):
                        i = p * stride[0] - before[0] + r * dilation[0]
                        if 0 <= i < x.shape[1]:
                            for s in range(columns):
                                j = q * stride[1] - before[1] + s * dilation[1]
                                if 0 <= j < x.shape[2]:
                                    for c in range(depth):
                                        total += x[n, i, j, first + c] * w[k, r, s, c]
                    y[n, p, q, k] = total


@njit(cache=True, nogil=True)
def _grad_input(gy, w, stride, before, dilation, groups, gx):
    gx[:] = 0
    filters, rows, columns, depth = w.shape
    for n in range(gy.shape[0]):
        for p in range(gy.shape[1]):
            for q in range(gy.shape[2]):
                for k in range(filters):
                    first = k // (filters // groups) * depth
                    for r in range(rows):
                        i = p * stride[0] - before[0] + r * dilation[0]
                        if 0 <= i < gx.shape[1]:
                            for s in range(columns):
                                j = q * stride[1] - before[1] + s * dilation[1]
                                if 0 <= j < gx.shape[2]:
                                    for c in range(depth):
                                        gx[n, i, j, first + c] += gy[n, p, q, k] * w[k, r, s, c]


@njit(cache=True, nogil=True)
def _grad_weight(gy, x, stride, before, dilation, groups, gw):
    gw[:] = 0
    filters, rows, columns, depth = gw.shape
    for n in range(gy.shape[0]):
        for p in range(gy.shape[1]):
            for q in range(gy.shape[2]):
                for k in range(filters):
                    first = k // (filters // groups) * depth
                    for r in range(rows):
                        i = p * stride[0] - before[0] + r * dilation[0]
                        if 0 <= i < x.shape[1]:
                            for s in range(columns):
                                j = q * stride[1] - before[1] + s * dilation[1]
                                if 0 <= j < x.shape[2]:
                                    for c in range(depth):
                                        gw[k, r, s, c] += gy[n, p, q, k] * x[n, i, j, first + c]


@njit(cache=True, nogil=True)
def _grad_bias(gy, gb):
    gb[:] = 0
    for n in range(gy.shape[0]):
        for p in range(gy.shape[1]):
            for q in range(gy.shape[2]):
                for k in range(gy.shape[3]):
                    gb[k] += gy[n, p, q, k]
