"""cross_entropy on a GPU, by cross_entropy.cu or cross_entropy.metal."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from kernels.cross_entropy.operator import checked, options, output_shape
from kernels.gpu.operator import DeviceOperator, ceil_div, zeros
from kernels.softmax.device import THREADS, lanes_of

if TYPE_CHECKING:
    from torch import Tensor

    from kernels.gpu.device import Argument

PART = 1 << 13
"""Labels that a block adds up the weights of."""


class Form(NamedTuple):
    """What the shapes and numbers of a call say."""

    shape: tuple[int, int, int]
    """(N, C, all of d1, ...)."""
    output: tuple[int, ...]
    labelled: int
    own: float
    """The share of the label, or of the probabilities."""
    spread: float
    """The share of every class."""
    ignore_index: int
    reduction: str


class Given(NamedTuple):
    """A call's tensors; what is not there is another in its place."""

    x: Tensor
    labels: Tensor
    probabilities: Tensor
    weight: Tensor
    weighted: int


class DeviceCrossEntropy(DeviceOperator):
    """log_softmax over the classes, and the negative log likelihood of the target.

    Contiguous tensors: float32, and int64 or uint8 labels. The host does not wait to see their
    values: a label that is neither a class nor `ignore_index` gives NaN where it stands, and to a
    mean or sum.
    """

    source = "cross_entropy/cross_entropy"

    def forward(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        target: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """[C], [N, C] or [N, C, d1, ...] -> no dimensions, or [N, d1, ...] for reduction "none".

        `target`: labels [N, d1, ...], or probabilities, shaped as the input. Raises TypeError,
        ValueError, DeviceError.
        """
        given, form = self._call(input, target, weight, ignore_index, reduction, label_smoothing)
        x, reduce, mean = given.x, int(reduction != "none"), int(reduction == "mean")
        if not x.numel():
            return _of_nothing(given, form)
        y: Tensor = x.new_empty(form.output)
        bits, blocks = lanes_of(*form.shape)
        alone = self._sequential or not reduce
        losses = y if alone else x.new_empty(blocks)
        counts = y if alone else x.new_empty(blocks)
        self._launch(
            "cross_entropy_forward", blocks, THREADS, x, given.labels, given.probabilities,
            given.weight, losses, counts, *_numbers(given, form, bits), reduce, mean,
        )  # fmt: skip
        if not alone:
            self._reduce(losses, counts, y, mean)
        return y

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        target: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """The gradient of the input; the target counts as given data.

        Raises as `forward` does.
        """
        given, form = self._call(input, target, weight, ignore_index, reduction, label_smoothing)
        x = given.x
        gy = self._tensor("grad_output", grad_output, like=x)
        if gy.shape != form.output:
            raise ValueError(f"grad_output must have shape {form.output}, got {tuple(gy.shape)}")
        gx = x.new_empty(x.shape)
        if not x.numel():
            return gx
        mean = int(reduction == "mean" and form.labelled)
        divisor = self._divisor(given, form) if mean and not self._sequential else x
        n, _, inner = form.shape
        count = float(n * inner) if reduction == "mean" else 1.0
        bits, blocks = lanes_of(*form.shape)
        self._launch(
            "cross_entropy_backward", blocks, THREADS, gy, x, given.labels, given.probabilities,
            given.weight, divisor, gx, *_numbers(given, form, bits), int(reduction == "none"),
            mean, count,
        )  # fmt: skip
        return gx

    def _divisor(self, given: Given, form: Form) -> Tensor:
        """[1]: the weights of all labels."""
        _, classes, _ = form.shape
        count = given.labels.numel()
        blocks = ceil_div(count, PART)
        weights: Tensor = given.x.new_empty(blocks)
        self._launch(
            "cross_entropy_weigh", blocks, THREADS, given.labels, given.weight, weights,
            count, classes, given.weighted, form.ignore_index, PART,
        )  # fmt: skip
        if blocks == 1:
            return weights
        total: Tensor = weights.new_empty(1)
        self._reduce(weights, weights, total, 0)
        return total

    def _reduce(self, losses: Tensor, counts: Tensor, y: Tensor, mean: int) -> None:
        self._launch("cross_entropy_reduce", 1, THREADS, losses, counts, y, losses.numel(), mean)

    def _call(
        self,
        given: Tensor,
        target: Tensor,
        weight: Tensor | None,
        ignore_index: int,
        reduction: str,
        label_smoothing: float,
    ) -> tuple[Given, Form]:
        import torch

        x = self._tensor("input", given)
        w = None if weight is None else self._tensor("weight", weight, like=x)
        floating = not isinstance(target, torch.Tensor) or target.dtype.is_floating_point
        dtype = "float32" if floating else str(target.dtype).removeprefix("torch.")
        t = self._tensor("target", target, like=x, dtype=dtype)
        form = _form(
            tuple(x.shape), tuple(t.shape), dtype, None if w is None else tuple(w.shape),
            *options(ignore_index, reduction, label_smoothing),
        )  # fmt: skip
        if form.labelled and t.dtype != torch.int64:
            t = t.to(torch.int64)
        return Given(x, t, t, x if w is None else w, int(w is not None)), form


@functools.lru_cache(maxsize=512)
def _form(
    given: tuple[int, ...],
    target: tuple[int, ...],
    dtype: str,
    weight: tuple[int, ...] | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Form:
    """Raises what the operator on arrays raises for these shapes and numbers."""
    factor = None if weight is None else zeros(weight)
    wanted = zeros(target, dtype)
    call = checked(zeros(given), wanted, factor, ignore_index, reduction, label_smoothing)
    own, spread = 1 - label_smoothing, label_smoothing / max(call.shape[1], 1)
    output = output_shape(call)
    return Form(call.shape, output, int(call.labelled), own, spread, ignore_index, reduction)


def _numbers(given: Given, form: Form, bits: int) -> tuple[Argument, ...]:
    """What forward and backward are both told."""
    terms = (form.labelled, given.weighted, form.ignore_index, form.own, form.spread)
    return *form.shape, bits, *terms


def _of_nothing(given: Given, form: Form) -> Tensor:
    """The loss of no positions, or of positions without classes, where every label is wrong."""
    if form.reduction == "mean":
        return given.x.new_full((), float("nan"))
    n, _, inner = form.shape
    losses = given.x.new_zeros(n * inner)
    if form.labelled:
        losses[given.labels.reshape(-1) != form.ignore_index] = float("nan")
    return losses.reshape(form.output) if form.reduction == "none" else losses.sum()
