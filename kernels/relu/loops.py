"""The sequential baseline: one loop, compiled by Numba on one thread."""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arrays import Array
from kernels.relu.operator import ReluAlgorithm


class Loops(ReluAlgorithm):
    """relu as its definition reads."""

    def forward(self, input: Array, output: Array, threads: int | None) -> None:  # noqa: A002, ARG002
        """Fill `output`."""
        _forward(np.ascontiguousarray(input).reshape(-1), output.dtype.type(0), output.reshape(-1))

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input`."""
        _backward(
            np.ascontiguousarray(grad_output).reshape(-1),
            np.ascontiguousarray(input).reshape(-1),
            grad_input.dtype.type(0),
            grad_input.reshape(-1),
        )


@njit(cache=True, nogil=True)
def _forward(x, zero, y):
    for i in range(x.size):
        y[i] = zero if x[i] < zero else x[i]  # noqa: FURB136 - NaN stays


@njit(cache=True, nogil=True)
def _backward(gy, x, zero, gx):
    for i in range(x.size):
        gx[i] = zero if x[i] <= zero else gy[i]
