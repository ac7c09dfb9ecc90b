"""`torch.nn.functional.softmax` and its gradient: arguments, shapes and memory; no arithmetic.

`log_softmax` is the same but for the arithmetic, and takes its class from here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from kernels.arrays import Array, empty, float_array, integer
from kernels.operator import Algorithm, Operator

ANY_NDIM = range(65)


@dataclass(frozen=True)
class Call:
    """One softmax in normal form."""

    input: Array
    """Any number of dimensions, any strides."""
    dim: int
    """From 0; 0 for an input without dimensions."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(outer, classes, inner): `dim` is the middle one, what is before and behind it folded."""
        return folded_shape(self.input.shape, self.dim)

    def folded(self, array: Array) -> Array:
        """[outer, classes, inner], contiguous; a view of an array that is contiguous."""
        return np.ascontiguousarray(array).reshape(self.shape)


class SoftmaxAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill are contiguous and hold anything before."""

    @abstractmethod
    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`, shaped as the input."""

    @abstractmethod
    def backward(
        self, call: Call, grad_output: Array, output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input` from the gradient of the output and the output itself."""


class Softmax(Operator[SoftmaxAlgorithm]):
    """Along one dimension, exponentials that sum to one."""

    def forward(self, input: Array, dim: int) -> Array:  # noqa: A002 - torch's name
        """exp(input) / sum of exp(input) along `dim`, shaped as the input, contiguous as torch's.

        Raises TypeError for what is no float array and no whole number, IndexError for a
        dimension that is not there.
        """
        call = _call(input, dim)
        return self._forward(call)

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        dim: int,
        *,
        output: Array | None = None,
    ) -> Array:
        """The gradient of the input, contiguous as torch's.

        `output`: what `forward` returned for this input, so that it is not computed again. Raises
        as `forward` does, and ValueError for shapes that differ.
        """
        call = _call(input, dim)
        grad_output = _like("grad_output", grad_output, call.input)
        output = self._forward(call) if output is None else _like("output", output, call.input)
        grad_input = empty(call.input.shape, call.input.dtype)
        if grad_input.size:
            self._algorithm.backward(call, grad_output, output, grad_input, self._threads)
        return grad_input

    def _forward(self, call: Call) -> Array:
        output = empty(call.input.shape, call.input.dtype)
        if output.size:
            self._algorithm.forward(call, output, self._threads)
        return output


def _call(given: Array, dim: int) -> Call:
    given = float_array("input", given, ANY_NDIM)
    return Call(given, dim_of(given.shape, dim))


def dim_of(shape: tuple[int, ...], dim: object) -> int:
    """`dim` from 0. Raises TypeError, ValueError, and IndexError for one that is not there."""
    number = integer("dim", dim, -(2**63))
    dims = max(len(shape), 1)
    if not -dims <= number < dims:
        raise IndexError(
            f"dim must be from {-dims} to {dims - 1} for input of shape {shape}, got {number}"
        )
    return number % dims


def folded_shape(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """(outer, classes, inner): `dim` is the middle one, what is before and behind it folded."""
    sizes = shape or (1,)
    return math.prod(sizes[:dim]), sizes[dim], math.prod(sizes[dim + 1 :])


def _like(name: str, value: Array, given: Array) -> Array:
    value = float_array(name, value, ANY_NDIM, like=given)
    if value.shape != given.shape:
        raise ValueError(
            f"{name} must have shape {given.shape} as the input has, got {value.shape}"
        )
    return value
