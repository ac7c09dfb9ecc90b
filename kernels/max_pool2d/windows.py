"""Vectorised NumPy: one place of the window after the other, for all windows at once.

A place is a strided view of the input, so nothing is copied. Indices are compared within the window
and become indices of the image at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import EllipsisType

import numpy as np

from kernels.arrays import Array
from kernels.max_pool2d.operator import Call, MaxPool2dAlgorithm
from kernels.pooling import Axis

Place = tuple[EllipsisType, slice, slice]


class Windows(MaxPool2dAlgorithm):
    """max_pool2d in as many NumPy steps as a window has places."""

    def forward(
        self,
        call: Call,
        output: Array,
        indices: Array | None,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `output` and `indices` [N, C, P, Q]."""
        output.fill(-np.inf)
        if indices is None:
            for outputs, inputs in _places(call):
                best = output[outputs]
                np.maximum(best, call.input[inputs], out=best)
            return
        rows, columns = call.grid.rows, call.grid.columns
        indices[...] = rows.windows[0][:, None] * columns.size + columns.windows[0]
        flat = np.arange(rows.size * columns.size).reshape(rows.size, columns.size)
        for outputs, inputs in _places(call):
            best = output[outputs]
            value = call.input[inputs]
            better = (value > best) | np.isnan(value)
            np.copyto(best, value, where=better)
            np.copyto(indices[outputs], flat[inputs], where=better)

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
        rows, columns = call.grid.rows, call.grid.columns
        flat = np.arange(rows.size * columns.size).reshape(rows.size, columns.size)
        inside = 0
        for outputs, inputs in _places(call):
            here = indices[outputs] == flat[inputs]
            inside += int(np.count_nonzero(here))
            place = grad_input[inputs]
            with np.errstate(invalid="ignore", over="ignore"):
                np.add(place, grad_output[outputs], out=place, where=here)
        return inside


def _places(call: Call) -> Iterator[tuple[Place, Place]]:
    """The windows that have a place inside the input, and where those places lie."""
    for up in _axis_places(call, 0, call.grid.rows):
        for left in _axis_places(call, 1, call.grid.columns):
            yield (..., up[0], left[0]), (..., up[1], left[1])


def _axis_places(call: Call, axis: int, windows: Axis) -> Iterator[tuple[slice, slice]]:
    """For each place: the windows p for which it lies inside, and all those indices."""
    window = call.window
    stride, padding, dilation = window.stride[axis], window.padding[axis], window.dilation[axis]
    above = -((stride * (windows.outputs - 1) - padding) // dilation)
    inside = (windows.size - 1 + padding) // dilation + 1
    for r in range(max(0, above), min(window.kernel[axis], inside)):
        offset = r * dilation - padding
        first = max(0, -(offset // stride))
        end = min(windows.outputs, -((offset - windows.size) // stride))
        if first < end:
            start = first * stride + offset
            yield slice(first, end), slice(start, start + (end - first - 1) * stride + 1, stride)
