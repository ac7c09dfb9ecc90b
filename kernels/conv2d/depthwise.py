"""Depthwise convolution, one filter a channel: loops over neighbouring channels.

LLVM makes vectors of them. There is no sum over channels: the other convolutions' tiles would stand
empty.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.compiled import Kernel
from kernels.conv2d.operator import Call

CHANNELS = 64
"""Channels that a task of the weight's gradient sums."""


def fits(call: Call) -> bool:
    """Whether there are several channels, and each has one filter of its own."""
    filters, depth = call.weight.shape[:2]
    return depth == 1 and filters == call.groups > 1


def forward(call: Call, x: Array, y: Array, *, threaded: bool, threads: int | None) -> None:
    """Fill contiguous y [N, P, Q, C] from x [N, H, W, C]."""
    bias = np.zeros(len(call.weight), x.dtype) if call.bias is None else call.bias
    _FORWARD(
        threaded, threads, y.shape[0] * y.shape[1], x, _taps(call.weight),
        np.ascontiguousarray(bias), call.stride, call.before, call.dilation, y,
    )  # fmt: skip


def input_gradient(
    call: Call, gy: Array, gx: Array, *, threaded: bool, threads: int | None
) -> None:
    """Fill contiguous gx [N, H, W, C] from gy [N, P, Q, C]."""
    _GRAD_INPUT(
        threaded, threads, gx.shape[0] * gx.shape[1], gy, _taps(call.weight),
        call.stride, call.before, call.dilation, gx,
    )  # fmt: skip


def weight_gradient(
    call: Call, x: Array, gy: Array, gw: Array, *, threaded: bool, threads: int | None
) -> None:
    """Fill gw [C, R, S, 1] from x [N, H, W, C] and gy [N, P, Q, C]."""
    channels, rows, columns, _ = gw.shape
    sums = np.zeros((rows, columns, channels), gw.dtype)
    tasks = rows * columns * -(-channels // CHANNELS)
    _GRAD_WEIGHT(
        threaded, threads, tasks, x, gy, call.stride, call.before, call.dilation, sums
    )  # fmt: skip
    gw[..., 0] = sums.transpose(2, 0, 1)


def _taps(weight: Array) -> Array:
    return np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))


def _forward(tasks, x, w, bias, stride, before, dilation, y):
    for task in prange(tasks):
        n, p = task // y.shape[1], task % y.shape[1]
        for q in range(y.shape[2]):
            target = y[n, p, q]
            target[:] = bias
            for r in range(w.shape[0]):
                i = p * stride[0] - before[0] + r * dilation[0]
                if not 0 <= i < x.shape[1]:
                    continue
                for s in range(w.shape[1]):
                    j = q * stride[1] - before[1] + s * dilation[1]
                    if 0 <= j < x.shape[2]:
                        source, factor = x[n, i, j], w[r, s]
                        for c in range(len(target)):
                            target[c] += source[c] * factor[c]


def _grad_input(tasks, gy, w, stride, before, dilation, gx):
    for task in prange(tasks):
        n, i = task // gx.shape[1], task % gx.shape[1]
        for j in range(gx.shape[2]):
            target = gx[n, i, j]
            target[:] = 0
            for r in range(w.shape[0]):
                down = i + before[0] - r * dilation[0]
                if down % stride[0] or not 0 <= down // stride[0] < gy.shape[1]:
                    continue
                for s in range(w.shape[1]):
                    across = j + before[1] - s * dilation[1]
                    if across % stride[1] or not 0 <= across // stride[1] < gy.shape[2]:
                        continue
                    source, factor = gy[n, down // stride[0], across // stride[1]], w[r, s]
                    for c in range(len(target)):
                        target[c] += source[c] * factor[c]


def _grad_weight(tasks, x, gy, stride, before, dilation, sums):
    rows, columns, channels = sums.shape
    for task in prange(tasks):
        r, s = task // columns % rows, task % columns
        first = task // (columns * rows) * CHANNELS
        target = sums[r, s, first : min(first + CHANNELS, channels)]
        row = np.empty(len(target), sums.dtype)
        for n in range(gy.shape[0]):
            for p in range(gy.shape[1]):
                i = p * stride[0] - before[0] + r * dilation[0]
                if not 0 <= i < x.shape[1]:
                    continue
                row[:] = 0
                for q in range(gy.shape[2]):
                    j = q * stride[1] - before[1] + s * dilation[1]
                    if 0 <= j < x.shape[2]:
                        for c in range(len(row)):
                            row[c] += gy[n, p, q, first + c] * x[n, i, j, first + c]
                for c in range(len(row)):
                    target[c] += row[c]


_FORWARD = Kernel(_forward)
_GRAD_INPUT = Kernel(_grad_input)
_GRAD_WEIGHT = Kernel(_grad_weight)
