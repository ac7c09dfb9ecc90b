"""The sequential baseline: the plain nested loops, compiled by Numba on one thread."""

from __future__ import annotations

import math

from numba import njit

from kernels.arrays import Array
from kernels.softmax.operator import Call


class Loops:
    """softmax as its definition reads, with the greatest logit taken off first."""

    threaded = False

    def unavailable_reason(self) -> str | None:
        """None: Numba runs wherever this package does."""
        return None

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`, shaped as the input."""
        _forward(call.folded(call.input), call.folded(output))

    def backward(
        self,
        call: Call,
        grad_output: Array,
        output: Array,
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input` from the gradient of the output and the output itself."""
        _backward(call.folded(grad_output), call.folded(output), call.folded(grad_input))


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
