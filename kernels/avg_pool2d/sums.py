"""Vectorised NumPy: sums over the rows of each window, then over its columns.

A NumPy step a row of windows and a step a column of them, whatever sizes they have.
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.avg_pool2d.operator import AveragingAlgorithm, Call


class Sums(AveragingAlgorithm):
    """Means over windows, one axis after the other."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output` [N, C, P, Q]."""
        rows, columns = call.grid.rows, call.grid.columns
        n, channels, outputs, _ = call.shape
        tall = np.empty_like(call.input, shape=(n, channels, outputs, columns.size))
        with np.errstate(invalid="ignore", over="ignore"):
            for p, (first, count) in enumerate(rows.windows[:2].T):
                np.sum(call.input[:, :, first : first + count], axis=2, out=tall[:, :, p])
            for q, (first, count) in enumerate(columns.windows[:2].T):
                np.sum(tall[..., first : first + count], axis=3, out=output[..., q])
            output /= _divisors(call)

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input` [N, C, H, W]."""
        rows, columns = call.grid.rows, call.grid.columns
        n, channels, outputs, _ = call.shape
        wide = np.zeros_like(call.input, shape=(n, channels, outputs, columns.size))
        grad_input.fill(0)
        with np.errstate(invalid="ignore", over="ignore"):
            shares = grad_output / _divisors(call)
            for q, (first, count) in enumerate(columns.windows[:2].T):
                wide[..., first : first + count] += shares[..., q, None]
            for p, (first, count) in enumerate(rows.windows[:2].T):
                grad_input[:, :, first : first + count] += wide[:, :, p, None]


def _divisors(call: Call) -> Array:
    """[P, Q], in the input's dtype."""
    shares = np.multiply.outer(call.grid.rows.windows[2], call.grid.columns.windows[2])
    array: Array = shares.astype(call.input.dtype)
    return array
