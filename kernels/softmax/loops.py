"""The sequential baseline: the plain nested loops, compiled by Numba on one thread."""

from __future__ import annotations

import math

from numba import njit

from kernels.arrays import Array
from kernels.softmax.operator import Call, SoftmaxAlgorithm


class Loops(SoftmaxAlgorithm):
    """softmax, or its logarithm, as defined, with the greatest logit taken off first."""

    def __init__(self, *, log: bool) -> None:
        self._forward, self._backward = (
            (_log_forward, _log_backward) if log else (_forward, _backward)
        )

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`, shaped as the input."""
        self._forward(call.folded(call.input), call.folded(output))

    def backward(
        self,
        call: Call,
        grad_output: Array,
        output: Array,
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input` from the gradient of the output and the output itself."""
        self._backward(call.folded(grad_output), call.folded(output), call.folded(grad_input))


@njit(cache=True, nogil=True)
def _forward(x, y):
    outer, classes, inner = x.shape
    for o in range(outer):
        for i in range(inner):
            top = x[o, 0, i]
            for c in range(1, classes):
                if x[o, c, i] > top:
                    top = x[o, c, i]
            total = x.dtype.type(0)
            for c in range(classes):
                y[o, c, i] = math.exp(x[o, c, i] - top)
                total += y[o, c, i]
            for c in range(classes):
                y[o, c, i] /= total


@njit(cache=True, nogil=True)
def _backward(gy, y, gx):
    outer, classes, inner = y.shape
    for o in range(outer):
        for i in range(inner):
            total = y.dtype.type(0)
            for c in range(classes):
                total += gy[o, c, i] * y[o, c, i]
            for c in range(classes):
                gx[o, c, i] = y[o, c, i] * (gy[o, c, i] - total)


@njit(cache=True, nogil=True)
def _log_forward(x, y):
    outer, classes, inner = x.shape
    for o in range(outer):
        for i in range(inner):
            top = x[o, 0, i]
            for c in range(1, classes):
                if x[o, c, i] > top:
                    top = x[o, c, i]
            total = x.dtype.type(0)
            for c in range(classes):
                total += math.exp(x[o, c, i] - top)
            shift = math.log(total)
            for c in range(classes):
                y[o, c, i] = x[o, c, i] - top - shift


@njit(cache=True, nogil=True)
def _log_backward(gy, y, gx):
    outer, classes, inner = y.shape
    for o in range(outer):
        for i in range(inner):
            total = y.dtype.type(0)
            for c in range(classes):
                total += gy[o, c, i]
            for c in range(classes):
                gx[o, c, i] = gy[o, c, i] - math.exp(y[o, c, i]) * total
