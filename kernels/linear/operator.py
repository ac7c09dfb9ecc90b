"""`torch.nn.functional.linear` and its gradients: arguments, shapes and memory; no arithmetic."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels.arrays import Array, empty, flags, float_array
from kernels.operator import Algorithm, Operator


@dataclass(frozen=True)
class Call:
    """One product in normal form, in contiguous arrays."""

    input: Array
    """[N, I]: all dimensions but the last in one."""
    weight: Array
    """[O, I]."""
    bias: Array | None
    """[O]."""


@dataclass(frozen=True)
class Gradients:
    """Room for the gradients that are wanted, each as large as the call's argument, contiguous."""

    input: Array | None
    weight: Array | None
    bias: Array | None


class LinearAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill hold anything before."""

    @abstractmethod
    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, O]; no size is 0."""

    @abstractmethod
    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> None:
        """Fill the gradients from the output's [N, O], contiguous; no size is 0."""


class Linear(Operator[LinearAlgorithm]):
    """input times weight transposed, plus bias."""

    def forward(
        self,
        input: Array,  # noqa: A002 - torch's name
        weight: Array,
        bias: Array | None = None,
    ) -> Array:
        """[..., I] -> [..., O] for a weight [O, I] and a bias [O]; [...] for a weight [I].

        A weight [I] takes a bias without dimensions for an input [I], else none, as torch does.
        Raises TypeError for what is no float array, and ValueError for shapes.
        """
        call = _call(input, weight, bias)
        output = empty(_output_shape(input, weight), call.input.dtype)
        rows = output.reshape(len(call.input), len(call.weight))
        if call.input.size and call.weight.size:
            self._algorithm.forward(call, rows, self._threads)
        else:
            rows[...] = 0 if call.bias is None else call.bias
        return output

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        weight: Array,
        bias: Array | None = None,
        *,
        needs: Sequence[bool] = (True, True, True),
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of input, weight and bias, from that of the output; all contiguous.

        None for those that `needs` leaves out, and for a bias that is not there. Raises as
        `forward` does.
        """
        call = _call(input, weight, bias)
        wanted = _output_shape(input, weight)
        grad_output = float_array("grad_output", grad_output, (len(wanted),), like=call.input)
        if grad_output.shape != wanted:
            raise ValueError(f"grad_output must have shape {wanted}, got {grad_output.shape}")
        needs = flags("needs", needs, "input", "weight", "bias")
        kind = call.input.dtype
        grad_input = empty(input.shape, kind) if needs[0] else None
        grad_weight = empty(weight.shape, kind) if needs[1] else None
        grad_bias = empty(bias.shape, kind) if needs[2] and bias is not None else None
        grads = Gradients(
            input=None if grad_input is None else grad_input.reshape(call.input.shape),
            weight=None if grad_weight is None else grad_weight.reshape(call.weight.shape),
            bias=None if grad_bias is None else grad_bias.reshape(len(call.weight)),
        )
        rows = np.ascontiguousarray(grad_output).reshape(len(call.input), len(call.weight))
        if call.input.size and call.weight.size:
            self._algorithm.backward(call, rows, grads, self._threads)
        else:
            for grad in (grads.input, grads.weight):
                if grad is not None:
                    grad.fill(0)
            if grads.bias is not None:
                rows.sum(0, out=grads.bias)
        return grad_input, grad_weight, grad_bias


def _output_shape(given: Array, weight: Array) -> tuple[int, ...]:
    return given.shape[:-1] + weight.shape[:-1]


def _call(given: Array, weight: Array, bias: Array | None) -> Call:
    given, weight, bias = checked(given, weight, bias)
    inputs = given.shape[-1]
    return Call(
        np.ascontiguousarray(given).reshape(math.prod(given.shape[:-1]), inputs),
        np.ascontiguousarray(weight).reshape(math.prod(weight.shape[:-1]), inputs),
        None if bias is None else np.ascontiguousarray(bias).reshape(-1),
    )


def checked(given: Array, weight: Array, bias: Array | None) -> tuple[Array, Array, Array | None]:
    """The arguments, in any strides. Raises as `Linear.forward` does."""
    given = float_array("input", given, range(1, 65))
    weight = float_array("weight", weight, (1, 2), like=given)
    inputs = given.shape[-1]
    if weight.shape[-1] != inputs:
        raise ValueError(
            f"weight must have {inputs} columns as input of shape {given.shape} has, "
            f"got shape {weight.shape}"
        )
    if bias is not None:
        if weight.ndim == 1 and given.ndim > 1:
            raise ValueError(
                f"bias must be None for a weight [I] and more than one row of input, "
                f"got shape {np.shape(bias)}"
            )
        bias = float_array("bias", bias, (weight.ndim - 1,), like=given)
        if bias.shape != weight.shape[:-1]:
            raise ValueError(f"bias must have shape {weight.shape[:-1]}, got {bias.shape}")
    return given, weight, bias
