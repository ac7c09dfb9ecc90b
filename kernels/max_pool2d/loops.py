"""The sequential baseline: the plain nested loops, compiled by Numba on one thread."""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arrays import Array
from kernels.max_pool2d.operator import Call, MaxPool2dAlgorithm


class Loops(MaxPool2dAlgorithm):
    """max_pool2d as its definition reads."""

    def forward(
        self,
        call: Call,
        output: Array,
        indices: Array | None,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `output` and `indices` [N, C, P, Q]."""
        if indices is None:
            indices = np.empty_like(output, np.int64)
        _forward(call.input, *_geometry(call), output, indices)

    def backward(
        self,
        call: Call,
        grad_output: Array,
        indices: Array,
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> int:
        """Fill `grad_input` [N, C, H, W]; returns how many indices point into their windows."""
        grad_input.fill(0)
        return int(_backward(grad_output, indices, *_geometry(call), grad_input))


def _geometry(call: Call) -> tuple[Array, Array, tuple[int, int]]:
    rows, columns = call.grid.rows, call.grid.columns
    return rows.windows, columns.windows, (rows.dilation, columns.dilation)


@njit(cache=True, nogil=True)
def _forward(x, rows, columns, dilation, y, indices):
    width = x.shape[3]
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            for p in range(y.shape[2]):
                for q in range(y.shape[3]):
                    best = -np.inf
                    index = rows[0, p] * width + columns[0, q]
                    for r in range(rows[1, p]):
                        i = rows[0, p] + r * dilation[0]
                        for s in range(columns[1, q]):
                            j = columns[0, q] + s * dilation[1]
                            value = x[n, c, i, j]
                            if value > best or np.isnan(value):
                                best = value
                                index = i * width + j
                    y[n, c, p, q] = best
                    indices[n, c, p, q] = index


@njit(cache=True, nogil=True)
def _backward(gy, indices, rows, columns, dilation, gx):
    width = gx.shape[3]
    inside = 0
    for n in range(gy.shape[0]):
        for c in range(gy.shape[1]):
            for p in range(gy.shape[2]):
                for q in range(gy.shape[3]):
                    for r in range(rows[1, p]):
                        i = rows[0, p] + r * dilation[0]
                        for s in range(columns[1, q]):
                            j = columns[0, q] + s * dilation[1]
                            if indices[n, c, p, q] == i * width + j:
                                gx[n, c, i, j] += gy[n, c, p, q]
                                inside += 1
    return inside
