"""What the tests of the operators share: inputs in every memory, error bounds, guarded outputs.

The bound (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1, with a
constant that random signs make ample): |y - y64| <= 8 u S, where y64 is the operator in float64, S
the same operator on absolute values, u the unit roundoff of the result's dtype.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager

import numpy as np
import torch

FORMATS = ("contiguous", "channels_last", "views")
DTYPES = ("float32", "float64")
CANARY = -123456.75


def laid_out(array, memory):
    """The same values in other memory; "views": every second element, in negative strides."""
    if memory == "contiguous":
        return array.copy(order="C")
    if memory == "channels_last":
        if array.ndim != 4:
            return array.copy(order="C")
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert memory == "views"
    room = np.full([2 * size for size in array.shape], CANARY, array.dtype)
    view = room[(..., *(slice(None, None, -2) for _ in array.shape))]
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


def tensor(array):
    """A torch tensor with the same values in the same memory order; negative strides copied."""
    if any(stride < 0 for stride in array.strides) or not array.flags.writeable:
        array = array.copy(order="K")
    return torch.from_numpy(array)


def assert_equal(actual, expected):
    """Shape, dtype, every value; NaN equals NaN."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def assert_order(actual, expected):
    """The memory order of torch's `expected`, by the strides of all dimensions that have more than
    one element: those of the others mean nothing, and torch and NumPy write them differently.
    """
    assert actual.shape == tuple(expected.shape)
    if actual.size:
        size = expected.element_size()
        pairs = zip(actual.strides, expected.stride(), actual.shape, strict=True)
        told = [(ours, theirs * size) for ours, theirs, length in pairs if length > 1]
        assert [ours for ours, _ in told] == [theirs for _, theirs in told]


@contextmanager
def about(what):
    """Say of a failed check what it was of: `with about("gradient of weight"): ...`."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error


def assert_within(actual, exact, scale, *, factor=8):
    """|actual - exact| <= factor u scale, element by element; `exact` and `scale` in float64."""
    assert actual.shape == exact.shape
    unit = np.finfo(actual.dtype).eps / 2
    error = np.abs(actual.astype(np.float64) - exact)
    allowed = factor * unit * scale + np.finfo(actual.dtype).tiny
    worst = np.unravel_index(np.argmax(error - allowed), error.shape) if error.size else ()
    worst = tuple(map(int, worst))
    assert error.size == 0 or (error <= allowed).all(), (
        f"at {worst}: got {actual[worst]}, wanted {exact[worst]}, error {error[worst]:.3g}, "
        f"allowed {allowed[worst]:.3g}"
    )


class Guard:
    """Makes every operator's results in the middle of a larger buffer, filled with canaries."""

    def __init__(self, monkeypatch):
        self._buffers = []
        for name, module in list(sys.modules.items()):
            ours = name.startswith("kernels.") and name.endswith(".operator")
            if ours and hasattr(module, "empty"):
                monkeypatch.setattr(module, "empty", self._empty)

    def _empty(self, shape, dtype, *, channels_last=False):
        size = int(np.prod(shape))
        margin = 64 + size
        buffer = np.full(size + 2 * margin, CANARY).astype(dtype)
        inside = buffer[margin : margin + size]
        self._buffers.append((buffer, margin, size))
        if not channels_last:
            return inside.reshape(shape)
        n, c, h, w = shape
        return inside.reshape(n, h, w, c).transpose(0, 3, 1, 2)

    def check(self):
        """Fail where a canary around a result has gone, or one inside has stayed."""
        assert self._buffers, "no operator made room for a result"
        for buffer, margin, size in self._buffers:
            canary = np.array(CANARY).astype(buffer.dtype)
            outside = np.concatenate([buffer[:margin], buffer[margin + size :]])
            assert (outside == canary).all(), "something was written outside of the result"
            assert (buffer[margin : margin + size] != canary).all(), "a result was left unwritten"
