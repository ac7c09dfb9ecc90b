"""The sequential baseline: the plain nested loops, compiled by Numba on one thread.

Sums run in the input's own dtype, row after row.
"""

from __future__ import annotations

from numba import njit

from kernels.arrays import Array
from kernels.avg_pool2d.operator import AveragingAlgorithm, Call


class Loops(AveragingAlgorithm):
    """Means over windows as their definition reads."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output` [N, C, P, Q]."""
        _forward(call.input, call.grid.rows.windows, call.grid.columns.windows, output)

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input` [N, C, H, W]."""
        grad_input.fill(0)
        _backward(grad_output, call.grid.rows.windows, call.grid.columns.windows, grad_input)


@njit(cache=True, nogil=True)
def _forward(x, rows, columns, y):
    zero = x.dtype.type(0)
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            for p in range(y.shape[2]):
                for q in range(y.shape[3]):
                    total = zero
                    for i in range(rows[0, p], rows[0, p] + rows[1, p]):
                        for j in range(columns[0, q], columns[0, q] + columns[1, q]):
                            total += x[n, c, i, j]
                    y[n, c, p, q] = total / x.dtype.type(rows[2, p] * columns[2, q])


@njit(cache=True, nogil=True)
def _backward(gy, rows, columns, gx):
    for n in range(gy.shape[0]):
        for c in range(gy.shape[1]):
            for p in range(gy.shape[2]):
                for q in range(gy.shape[3]):
                    grad = gy[n, c, p, q] / gy.dtype.type(rows[2, p] * columns[2, q])
                    for i in range(rows[0, p], rows[0, p] + rows[1, p]):
                        for j in range(columns[0, q], columns[0, q] + columns[1, q]):
                            gx[n, c, i, j] += grad
