"""`torch.nn.functional.relu` and its gradient: arguments, shapes and memory; no arithmetic.

What is not below zero stays what it is: NaN, and -0.0. The gradient passes wherever the input is
not at or below zero, so at NaN too.
"""

from __future__ import annotations

from abc import abstractmethod

from kernels.arrays import Array, empty, float_array
from kernels.elementwise import memory_order
from kernels.operator import Algorithm, Operator

ANY = range(65)
"""NumPy's numbers of dimensions."""


class ReluAlgorithm(Algorithm):
    """A way of computing it. The arrays to fill are C-contiguous and hold anything before.

    The others have the same shape and any strides: their dimensions come in the order in which the
    result lies in memory.
    """

    @abstractmethod
    def forward(self, input: Array, output: Array, threads: int | None) -> None:  # noqa: A002
        """Fill `output`."""

    @abstractmethod
    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002
        grad_input: Array,
        threads: int | None,
    ) -> None:
        """Fill `grad_input`."""


class Relu(Operator[ReluAlgorithm]):
    """max(x, 0), element by element."""

    def forward(self, input: Array) -> Array:  # noqa: A002 - torch's name
        """[...] -> [...], dense, in the input's order of memory. Raises TypeError."""
        given = float_array("input", input, ANY)
        order, back = memory_order(given.shape, given)
        given = given.transpose(order)
        output = empty(given.shape, given.dtype)
        if output.size:
            self._algorithm.forward(given, output, self._threads)
        return output.transpose(back)

    def backward(self, grad_output: Array, input: Array) -> Array:  # noqa: A002 - torch's name
        """The gradient of the input, from that of the output. Raises TypeError, ValueError."""
        given = float_array("input", input, ANY)
        grad_output = float_array("grad_output", grad_output, ANY, like=given)
        if grad_output.shape != given.shape:
            raise ValueError(f"grad_output must have shape {given.shape}, got {grad_output.shape}")
        order, back = memory_order(given.shape, given, grad_output)
        given, grad_output = given.transpose(order), grad_output.transpose(order)
        grad_input = empty(given.shape, given.dtype)
        if grad_input.size:
            self._algorithm.backward(grad_output, given, grad_input, self._threads)
        return grad_input.transpose(back)
