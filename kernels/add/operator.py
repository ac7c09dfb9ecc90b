"""`torch.add` of two arrays and its gradients: arguments, shapes and memory; no arithmetic."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from kernels.arrays import Array, empty, flags, float_array
from kernels.elementwise import Shape, memory_order
from kernels.operator import Algorithm, Operator

ANY = range(65)
"""NumPy's numbers of dimensions."""

LARGEST = {4: float(np.finfo(np.float32).max), 8: float(np.finfo(np.float64).max)}
"""Of the finite numbers, by their size in bytes."""


@dataclass(frozen=True)
class Call:
    """One sum in normal form: dimensions in the order in which the result lies in memory."""

    input: Array
    other: Array
    """Both with the result's number of dimensions, one-sized where they are repeated."""
    alpha: float
    shape: tuple[int, ...]
    """The result's."""
    back: tuple[int, ...]
    """Which of our dimensions each of the caller's is."""


@dataclass(frozen=True)
class Fold:
    """A gradient in normal form: `grad` [...] times alpha, summed to `shape`."""

    grad: Array
    alpha: float
    shape: tuple[int, ...]
    """As many dimensions as `grad` has, one-sized where it is summed over."""


class AddAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill hold anything before."""

    @abstractmethod
    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`, which is C-contiguous."""

    @abstractmethod
    def backward(self, fold: Fold, grad: Array, threads: int | None) -> None:
        """Fill `grad`, of the fold's shape and any strides; C-contiguous if nothing is summed.

        Not called where the gradient is `grad_output` itself.
        """


class Add(Operator[AddAlgorithm]):
    """input + alpha other, the one repeated along the other's dimensions."""

    def forward(self, input: Array, other: Array, *, alpha: float = 1) -> Array:  # noqa: A002
        """[...] and [...] -> [...], by the broadcasting rules that torch and NumPy share.

        Dense, in the order of memory in which torch lays it. Raises TypeError, ValueError.
        """
        call = _call(input, other, alpha)
        output = empty(call.shape, call.input.dtype)
        if output.size:
            self._algorithm.forward(call, output, self._threads)
        return output.transpose(call.back)

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        other: Array,
        *,
        alpha: float = 1,
        needs: Sequence[bool] = (True, True),
    ) -> tuple[Array | None, Array | None]:
        """The gradients of input and other, from that of the output; None where not needed.

        As from torch's autograd, a gradient that is equal to `grad_output` is `grad_output`.
        Raises as `forward` does.
        """
        call = _call(input, other, alpha)
        wanted = tuple(call.shape[axis] for axis in call.back)
        grad = float_array("grad_output", grad_output, ANY, like=call.input)
        if grad.shape != wanted:
            raise ValueError(f"grad_output must have shape {wanted}, got {grad.shape}")

        def gradient(argument: Array, alpha: float) -> Array:
            shape = np.shape(argument)
            same = shape == wanted and alpha == 1
            return grad_output if same else self._folded(grad, alpha, shape)

        needs = flags("needs", needs, "input", "other")
        return (
            gradient(input, 1.0) if needs[0] else None,
            gradient(other, call.alpha) if needs[1] else None,
        )

    def _folded(self, grad: Array, alpha: float, shape: tuple[int, ...]) -> Array:
        if not math.isfinite(alpha) and grad.shape != shape:
            # Before they are summed, as in torch: the sum may have another sign than its terms.
            with np.errstate(invalid="ignore"):
                grad, alpha = grad * grad.dtype.type(alpha), 1.0
        full = (1,) * (grad.ndim - len(shape)) + shape
        order, back = memory_order(grad.shape, grad)
        fold = Fold(grad.transpose(order), alpha, tuple(full[axis] for axis in order))
        if full == grad.shape:
            result = empty(fold.shape, grad.dtype).transpose(back)
        else:
            result = empty(full, grad.dtype)
        if grad.size:
            self._algorithm.backward(fold, result.transpose(order), self._threads)
        else:
            result.fill(0)
        return result.reshape(shape)


def _call(given: Array, other: Array, alpha: float) -> Call:
    given = float_array("input", given, ANY)
    other = float_array("other", other, ANY, like=given)
    by = factor(alpha, given.dtype)
    shape = broadcast(given.shape, other.shape)
    order, back = memory_order(shape, given, other)
    given, other = _with_dimensions(given, order), _with_dimensions(other, order)
    if shape != given.shape:
        shape = tuple([shape[axis] for axis in order])
    return Call(given, other, by, shape, back)


def broadcast(given: Shape, other: Shape) -> Shape:
    """The shape of the sum; raises ValueError where there is none."""
    if other == given:
        return given
    try:
        return np.broadcast_shapes(given, other)
    except ValueError:
        raise ValueError(
            f"other must have a shape that broadcasts with input's {given}, got {other}"
        ) from None


def factor(alpha: object, dtype: np.dtype[np.generic]) -> float:
    """`alpha` as a number; raises TypeError for what is none, ValueError for one beyond `dtype`."""
    if not isinstance(alpha, (Real, np.floating, np.integer)) or isinstance(alpha, bool):
        raise TypeError(f"alpha must be a real number, got {alpha!r}")
    try:
        number = float(alpha)
    except OverflowError:
        raise ValueError(f"alpha must be a number of {dtype}, got {alpha!r}") from None
    most = LARGEST[dtype.itemsize]
    if abs(number) > most and math.isfinite(number):
        raise ValueError(f"alpha must be a number of {dtype}, got {alpha!r}")
    return number


def _with_dimensions(array: Array, order: tuple[int, ...]) -> Array:
    if missing := len(order) - array.ndim:
        array = array.reshape((1,) * missing + array.shape)
    return array.transpose(order)
