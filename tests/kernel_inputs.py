"""Inputs of the operators' tests, in every memory. Loads no torch: it takes two seconds."""

from __future__ import annotations

import numpy as np

FORMATS = ("contiguous", "channels_last", "views", "gaps")
"""See `laid_out`, which takes "contiguous_gaps" too."""
DTYPES = ("float32", "float64")
CANARY = -123456.75


def laid_out(array, memory):
    """The same values in other memory.

    "views": every second element along all dimensions, in negative strides. "gaps": every second
    channel and column of a larger array in channels-last memory, or in contiguous memory.
    """
    if memory == "views":
        return _cut_out(array, [-2] * array.ndim)
    if memory.endswith("gaps"):
        steps = [2 if axis in (1, array.ndim - 1) else 1 for axis in range(array.ndim)]
        return _cut_out(array, steps, "channels_last" if memory == "gaps" else "contiguous")
    if memory == "channels_last" and array.ndim == 4:
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return array.copy(order="C")


def _cut_out(array, steps, memory="contiguous"):
    """The array as a view of a larger one, whose other numbers are canaries."""
    sizes = [abs(step) * size for step, size in zip(steps, array.shape, strict=True)]
    room = laid_out(np.full(sizes, CANARY, array.dtype), memory)
    view = room[(..., *(slice(None, None, step) for step in steps))]
    view[...] = array
    return view


def integers(rng, shape, dtype):
    """Whole numbers in [-4, 4]: sums of their products are exact in float32."""
    return np.asarray(rng.integers(-4, 5, shape)).astype(dtype)


def normal(rng, shape, dtype):
    """Standard normal."""
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def images(seed=0):
    """Input, weight and bias of a convolution whose sizes divide nothing."""
    rng = np.random.default_rng(seed)
    return [normal(rng, shape, "float32") for shape in ((3, 7, 9, 8), (21, 7, 3, 3), (21,))]
