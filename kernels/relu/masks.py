"""relu by NumPy: what is to become zero is a mask.

`np.maximum` would be one pass instead of three, but which zero it takes of 0.0 and -0.0 is the
machine's affair; torch's is -0.0.
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.relu.operator import ReluAlgorithm


class Masks(ReluAlgorithm):
    """relu by a mask; any strides are read in place."""

    def forward(self, input: Array, output: Array, threads: int | None) -> None:  # noqa: A002, ARG002
        """Fill `output`."""
        np.copyto(output, input)
        np.copyto(output, 0, where=input < 0)

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input`."""
        np.copyto(grad_input, grad_output)
        np.copyto(grad_input, 0, where=input <= 0)
