"""Vectorised NumPy: whole-array exponentials and reductions along the dimension, in any memory."""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.softmax.operator import Call, SoftmaxAlgorithm


class Reductions(SoftmaxAlgorithm):
    """softmax, or its logarithm: one pass over the array for each step of the definition."""

    def __init__(self, *, log: bool) -> None:
        self._log = log

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`, shaped as the input."""
        axis = call.dim if call.input.ndim else None
        with np.errstate(all="ignore"):
            np.subtract(call.input, call.input.max(axis, keepdims=True), out=output)
            if self._log:
                output -= np.log(np.exp(output).sum(axis, keepdims=True))
            else:
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
            if self._log:
                np.exp(output, out=grad_input)
                grad_input *= grad_output.sum(axis, keepdims=True)
                np.subtract(grad_output, grad_input, out=grad_input)
            else:
                np.multiply(grad_output, output, out=grad_input)
                np.subtract(grad_output, grad_input.sum(axis, keepdims=True), out=grad_input)
                np.multiply(grad_input, output, out=grad_input)
