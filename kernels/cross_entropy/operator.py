"""`torch.nn.functional.cross_entropy` and its gradient: arguments and shapes; no arithmetic."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import numpy as np

from kernels.arrays import Array, empty, float_array, integer, unlocked
from kernels.operator import Algorithm, Operator

REDUCTIONS = ("none", "mean", "sum")


class Call(NamedTuple):
    """One cross entropy in normal form. A position is one distribution over the classes."""

    input: Array
    """[C], [N, C] or [N, C, d1, ...], any strides."""
    target: Array
    """int64 labels [N, d1, ...], valid or `ignore_index`; or probabilities, shaped as the input."""
    labelled: bool
    """Whether the target holds labels."""
    weight: Array | None
    """[C]."""
    ignore_index: int
    reduction: str
    label_smoothing: float
    shape: tuple[int, int, int]
    """(N, C, all of d1, ...)."""


class CrossEntropyAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill are contiguous and hold anything before."""

    @abstractmethod
    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`: without dimensions, or [N, d1, ...] for reduction "none"."""

    @abstractmethod
    def backward(
        self, call: Call, grad_output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input`, shaped as the input."""


class CrossEntropy(Operator[CrossEntropyAlgorithm]):
    """log_softmax over the classes, and the negative log likelihood of the target."""

    def forward(
        self,
        input: Array,  # noqa: A002 - torch's name
        target: Array,
        weight: Array | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Array:
        """[C], [N, C] or [N, C, d1, ...] -> no dimensions, or [N, d1, ...] for reduction "none".

        `target`: labels [N, d1, ...] as int64 (uint8 too where there is no d1), or probabilities,
        shaped and typed as the input. "mean" divides by the sum of the labels' weights; by the
        number of positions where the target holds probabilities. Formulas: torch's
        documentation of `CrossEntropyLoss`. Raises TypeError, ValueError, and IndexError for a
        label that is neither a class nor `ignore_index`.
        """
        call = _call(input, target, weight, ignore_index, reduction, label_smoothing)
        output = empty(_output_shape(call), call.input.dtype)
        self._algorithm.forward(call, output, self._threads)
        return output

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        target: Array,
        weight: Array | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Array:
        """The gradient of the input, contiguous as torch's; the target counts as given data.

        Raises as `forward` does.
        """
        call = _call(input, target, weight, ignore_index, reduction, label_smoothing)
        wanted = _output_shape(call)
        grad_output = float_array("grad_output", grad_output, (len(wanted),), like=call.input)
        if grad_output.shape != wanted:
            raise ValueError(f"grad_output must have shape {wanted}, got {grad_output.shape}")
        grad_input = empty(call.input.shape, call.input.dtype)
        if grad_input.size:
            self._algorithm.backward(call, grad_output, grad_input, self._threads)
        return grad_input


def _output_shape(call: Call) -> tuple[int, ...]:
    return _positions(call.input) if call.reduction == "none" else ()


def _positions(given: Array) -> tuple[int, ...]:
    """[N, d1, ...]."""
    shape = given.shape
    return () if len(shape) == 1 else (shape[0], *shape[2:])


def _call(
    given: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    *,
    readable: bool = True,
) -> Call:
    """`readable`: whether the labels may be asked whether they are classes."""
    given = float_array("input", given, range(1, 65))
    ignore_index = integer("ignore_index", ignore_index, -(2**63))
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    numbers = (int, float, np.integer, np.floating)
    if isinstance(label_smoothing, bool) or not isinstance(label_smoothing, numbers):
        raise TypeError(f"label_smoothing must be a number, got {label_smoothing!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing}")
    classes = given.shape[0 if given.ndim == 1 else 1]
    if weight is not None:
        weight = float_array("weight", weight, (1,), like=given)
        if weight.shape != (classes,):
            raise ValueError(
                f"weight must have shape ({classes},), one for each class; got {weight.shape}"
            )
    if not isinstance(target, np.ndarray) or isinstance(target, np.ma.MaskedArray):
        raise TypeError(f"target must be a NumPy array, got {type(target).__name__}")
    labelled = target.dtype.kind != "f"
    if labelled:
        target = _labels(target, given, classes, ignore_index, readable)
    else:
        target = _probabilities(target, given, ignore_index)
    n, inner = (1, 1) if given.ndim == 1 else (given.shape[0], math.prod(given.shape[2:]))
    return Call(
        input=given,
        target=target,
        labelled=labelled,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=float(label_smoothing),
        shape=(n, classes, inner),
    )


def _probabilities(target: Array, given: Array, ignore_index: int) -> Array:
    target = float_array("target", target, range(1, 65), like=given)
    if target.shape != given.shape:
        raise ValueError(
            f"target: probabilities must have input's shape {given.shape}, "
            f"got {target.shape}; labels must be int64"
        )
    if ignore_index >= 0:
        raise ValueError(
            f"ignore_index must be negative for a target of probabilities, got {ignore_index}"
        )
    return target


def _labels(target: Array, given: Array, classes: int, ignore_index: int, readable: bool) -> Array:
    shape = _positions(given)
    if target.dtype != np.int64 and not (given.ndim <= 2 and target.dtype == np.uint8):
        wanted = "int64 or uint8 labels" if given.ndim <= 2 else "int64 labels"
        raise TypeError(
            f"target must be {wanted}, or {given.dtype} probabilities; got {target.dtype}"
        )
    if given.ndim == 1 and target.shape == (1,):
        target = target[0:1].reshape(())
    if target.shape != shape:
        raise ValueError(
            f"target must have shape {shape} for input of shape {given.shape}, got {target.shape}"
        )
    if target.dtype != np.int64 or not target.flags.aligned:
        target = target.astype(np.int64)
    # As unsigned numbers, negative labels lie beyond all classes.
    if readable and target.size and np.maximum.reduce(target.view(np.uint64), axis=None) >= classes:
        wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
        if wrong.any():
            raise IndexError(
                f"target must be a class from 0 to {classes - 1}, there are {classes}, "
                f"or ignore_index ({ignore_index}); got {target[wrong].flat[0]}"
            )
    return unlocked(np.asarray(target))
