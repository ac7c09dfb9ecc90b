"""Vectorised NumPy: one matrix product each, on as many threads as NumPy's BLAS takes."""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.linear.operator import Call, Gradients, LinearAlgorithm


class Products(LinearAlgorithm):
    """linear by `numpy.matmul`; transposed matrices are read in place."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output` [N, O]."""
        with np.errstate(all="ignore"):  # NaN and infinity travel without a warning
            np.matmul(call.input, call.weight.T, out=output)
            if call.bias is not None:
                output += call.bias

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill the gradients from the output's [N, O]."""
        with np.errstate(all="ignore"):
            if grads.input is not None:
                np.matmul(grad_output, call.weight, out=grads.input)
            if grads.weight is not None:
                np.matmul(grad_output.T, call.input, out=grads.weight)
            if grads.bias is not None:
                grad_output.sum(0, out=grads.bias)
