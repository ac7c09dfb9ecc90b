"""What the tests of the operators share: error bounds, gradient checks, guarded outputs.

The bound (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1, with a
constant that random signs make ample): |y - y64| <= 8 u S, where y64 is the operator in float64, S
the same operator on absolute values, u the unit roundoff of the result's dtype.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import kernels
from kernels.registry import OPERATORS
from tests.kernel_inputs import CANARY, DTYPES, FORMATS

each_memory = pytest.mark.parametrize("memory", FORMATS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def operator(name, implementation, threads=None):
    """Skips with the reason where it cannot run."""
    made = kernels.get(name, implementation, threads)
    reason = made.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    return made


def by_hand(name):
    """The implementations of our own."""
    return [key for key in kernels.names(name) if key != "torch"]


def threaded(name):
    """The implementations of our own that take a number of threads."""
    return [key for key in by_hand(name) if OPERATORS[name].algorithms[key].threaded]


def tensor(array):
    """A torch tensor with the same values in the same memory order; negative strides copied."""
    if any(stride < 0 for stride in array.strides) or not array.flags.writeable:
        array = array.copy(order="K")
    return torch.from_numpy(array)


NO_FLOATS = {
    "list": (lambda array: array.tolist(), "list"),
    "tensor": (tensor, "Tensor"),
    "masked": (np.ma.masked_array, "MaskedArray"),
    "int64": (lambda array: array.astype(np.int64), "int64"),
    "half": (lambda array: array.astype(np.float16), "float16"),
    "complex": (lambda array: array.astype(np.complex64), "complex64"),
    "bool": (lambda array: array.astype(bool), "bool"),
    "big-endian": (lambda array: array.astype(">f4"), ">f4"),
    "object": (lambda array: array.astype(object), "object"),
}
"""What no operator takes: how it is made of an array, and what an error calls it."""


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


def gradcheck(made, *given, **arguments):
    """Whether the operator's gradients are those of finite differences; `given` in float64."""

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.save_for_backward(*tensors)
            return torch.from_numpy(made.forward(*(each.numpy() for each in tensors), **arguments))

        @staticmethod
        def backward(ctx, grad_output):
            arrays = [each.numpy() for each in ctx.saved_tensors]
            grads = made.backward(grad_output.contiguous().numpy(), *arrays, **arguments)
            grads = grads if isinstance(grads, tuple) else (grads,)
            return tuple(map(torch.from_numpy, grads))

    return torch.autograd.gradcheck(Ours.apply, [tensor(each).requires_grad_() for each in given])


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
