"""Vectorised NumPy: whole-array exponentials and reductions along the dimension, in any memory."""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.softmax.operator import Call


class Reductions:
    """One pass over the array for each step of the definition."""

    threaded = False

    def unavailable_reason(self) -> str | None:
        """None: NumPy runs wherever this package does."""
        return None

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`, shaped as the input."""
        axis = call.dim if call.input.ndim else None
        with np.errstate(all="ignore"):
            np.subtract(call.input, call.input.max(axis, keepdims=True), out=output)
            np.exp(output, out=output)
            output /= output.sum(axis, keepdims=True)

    def backward(
        self,
        call: Call,
        grad_output: Array,
        output: Array,
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input` from the gradient of the output and the output itself."""
        axis = call.dim if call.input.ndim else None
        with np.errstate(all="ignore"):
            np.multiply(grad_output, output, out=grad_input)
            np.subtract(grad_output, grad_input.sum(axis, keepdims=True), out=grad_input)
            np.multiply(grad_input, output, out=grad_input)
