"""What the tests of the operators share: inputs in every memory, error bounds, guarded outputs,
gradients against finite differences, fresh interpreters.

The bound (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1, with a
constant that random signs make ample): |y - y64| <= 8 u S, where y64 is the operator in float64, S
the same operator on absolute values, u the unit roundoff of the result's dtype.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import kernels
from kernels.registry import OPERATORS

FORMATS = ("contiguous", "channels_last", "views", "gaps")
"""See `laid_out`, which takes "contiguous_gaps" too."""
DTYPES = ("float32", "float64")
CANARY = -123456.75

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


def run_python(code, *arguments, **variables):
    """What a fresh interpreter prints; a variable of None is taken out of the environment."""
    environment = {**os.environ, **variables}
    told = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={name: value for name, value in environment.items() if value is not None},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


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
