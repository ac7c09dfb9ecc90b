"""The sequential baseline: one loop over the result, compiled by Numba on one thread.

Arguments that are repeated are first written out in full. Sums of gradients run from left to
right in float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.add.operator import AddAlgorithm, Call, Fold
from kernels.arrays import Array


class Loops(AddAlgorithm):
    """add as its definition reads."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`."""
        _forward(
            _written_out(call.input, call.shape),
            _written_out(call.other, call.shape),
            output.dtype.type(call.alpha),
            output.reshape(-1),
        )

    def backward(self, fold: Fold, grad: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `grad`."""
        sums = np.zeros(grad.size)
        places = np.arange(grad.size).reshape(grad.shape)
        shape = fold.grad.shape
        _sum_up(_written_out(fold.grad, shape), _written_out(places, shape), sums)
        with np.errstate(all="ignore"):
            grad[...] = (fold.alpha * sums).reshape(grad.shape)


def _written_out(array: Array, shape: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1)


@njit(cache=True, nogil=True)
def _forward(a, b, alpha, y):
    for i in range(y.size):
        y[i] = a[i] + alpha * b[i]


@njit(cache=True, nogil=True)
def _sum_up(gy, places, sums):
    for i in range(gy.size):
        sums[places[i]] += gy[i]
