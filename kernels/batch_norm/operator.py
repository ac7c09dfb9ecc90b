"""`torch.nn.functional.batch_norm` and its gradients: arguments, shapes and memory.

    y = (x - mean) / sqrt(var + eps) * weight + bias

with the batch's own mean and biased variance in training, the running ones otherwise (Ioffe and
Szegedy, 2015, https://arxiv.org/abs/1502.03167). The mean is subtracted before anything is
multiplied, in sums of squares too, so that a mean far from zero costs nothing. Sums run in float64;
`numba` in channels-last memory adds some dozen float32 numbers at a time in float32 before.
What is left to round is, for u the unit roundoff of the dtype and r = 1 / sqrt(var + eps): the
difference, the factor r weight, their product and the last sum, at most 4 u S with
S = |x - mean| r |weight| + |bias|. To that comes the error of the statistics as sums: in float64
u mean(|x|) r |weight| times the length of the longest chain of additions, in float32 nothing, or
for `numba` in channels-last memory a few u of mean(|x - mean|) r |weight| and of |x - mean| r
|weight|, where squares overflow float32 from 1e19 on, as in torch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, NamedTuple, overload

import numpy as np

from kernels.arrays import Array, empty, flag, flags, float_array, is_channels_last
from kernels.elementwise import CHANNELS_LAST, inverse
from kernels.operator import Algorithm, Operator

RANKS = range(2, 65)


class Call(NamedTuple):
    """One batch norm in normal form."""

    input: Array
    """[N, C, ...], any strides."""
    running_mean: Array | None
    running_var: Array | None
    """The algorithm updates them in training."""
    weight: Array | None
    bias: Array | None
    """These four are [C], contiguous copies: compiled code meets one kind of array."""
    training: bool
    momentum: float
    eps: float
    channels_last: bool
    """Whether the channels are innermost in the memory of output and gradient."""


@dataclass(frozen=True)
class Gradients:
    """Room for the gradients that are wanted, each as large as its argument."""

    input: Array | None
    weight: Array | None
    bias: Array | None


class Saved(NamedTuple):
    """A batch's statistics by which its forward pass normalised, [C] each."""

    mean: Array
    invstd: Array
    """1 / sqrt(var + eps), of the biased variance."""


class BatchNormAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill hold anything before."""

    @abstractmethod
    def forward(self, call: Call, output: Array, saved: Saved | None, threads: int | None) -> None:
        """Fill `output` [N, C, ...], and in training `saved`, where there is room for it.

        In training update the call's running statistics too.
        """

    @abstractmethod
    def backward(
        self,
        call: Call,
        saved: Saved | None,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,
    ) -> Gradients | None:
        """Fill the gradients that are not None, or return others, from the output's [N, C, ...].

        `saved`: what forward has filled, in training alone, or None.
        """


class BatchNorm(Operator[BatchNormAlgorithm]):
    """Each channel brought to mean zero and variance one, then scaled and shifted."""

    @overload
    def forward(
        self,
        input: Array,
        running_mean: Array | None,
        running_var: Array | None,
        weight: Array | None = ...,
        bias: Array | None = ...,
        training: bool = ...,
        momentum: float = ...,
        eps: float = ...,
        *,
        return_statistics: Literal[False] = ...,
    ) -> Array: ...

    @overload
    def forward(
        self,
        input: Array,
        running_mean: Array | None,
        running_var: Array | None,
        weight: Array | None = ...,
        bias: Array | None = ...,
        training: bool = ...,
        momentum: float = ...,
        eps: float = ...,
        *,
        return_statistics: Literal[True],
    ) -> tuple[Array, Array, Array]: ...

    def forward(
        self,
        input: Array,  # noqa: A002 - torch's name
        running_mean: Array | None,
        running_var: Array | None,
        weight: Array | None = None,
        bias: Array | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *,
        return_statistics: bool = False,
    ) -> Array | tuple[Array, Array, Array]:
        """[N, C, ...] -> [N, C, ...], by statistics over all but C; the others are [C].

        In training the running statistics, where given, become in place
        (1 - momentum) running + momentum batch, with the batch's unbiased variance; a batch
        without elements leaves them. With `return_statistics`, in training alone, the result is
        (output, save_mean, save_invstd) as that of torch's native_batch_norm: the batch's mean and
        1 / sqrt(var + eps), which spare `backward` their computation; NaN for a batch without
        elements. Raises TypeError, ValueError.
        """
        call = normal_form(input, running_mean, running_var, weight, bias, training, momentum, eps)
        if training:
            for name, running in (("running_mean", running_mean), ("running_var", running_var)):
                if running is not None and not running.flags.writeable:
                    raise ValueError(f"{name} must be writable in training, got a read-only array")
        saved = None
        if flag("return_statistics", return_statistics):
            if not training:
                raise ValueError("return_statistics must be False unless in training, got True")
            channels, dtype = call.input.shape[1:2], call.input.dtype
            saved = Saved(empty(channels, dtype), empty(channels, dtype))
        output = _like(call)
        if output.size:
            self._algorithm.forward(call, output, saved, self._threads)
            if training and running_mean is not None and running_var is not None:
                running_mean[...] = call.running_mean
                running_var[...] = call.running_var
        elif saved is not None:
            for statistic in saved:
                statistic.fill(np.nan)
        return output if saved is None else (output, *saved)

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        running_mean: Array | None,
        running_var: Array | None,
        weight: Array | None = None,
        bias: Array | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *,
        save_mean: Array | None = None,
        save_invstd: Array | None = None,
        needs: Sequence[bool] = (True, True, True),
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of input, weight and bias, from that of the output.

        `save_mean`, `save_invstd`: what `forward` returned beside the output; without them the
        batch's statistics are computed anew. As torch does, inference looks at neither. None for
        the gradients that `needs` leaves out, and for a weight or bias that is not there. The
        running statistics stay as they are. Raises as `forward` does.
        """
        call = normal_form(input, running_mean, running_var, weight, bias, training, momentum, eps)
        saved = saved_statistics(save_mean, save_invstd, call)
        grad_output = float_array("grad_output", grad_output, RANKS, like=call.input)
        if grad_output.shape != call.input.shape:
            raise ValueError(
                f"grad_output must have shape {call.input.shape}, got {grad_output.shape}"
            )
        needs = flags("needs", needs, "input", "weight", "bias")
        channels = call.input.shape[1:2]
        dtype = call.input.dtype
        grads = Gradients(
            input=_like(call) if needs[0] else None,
            weight=empty(channels, dtype) if needs[1] and call.weight is not None else None,
            bias=empty(channels, dtype) if needs[2] and call.bias is not None else None,
        )
        if grad_output.size:
            results = self._algorithm.backward(call, saved, grad_output, grads, self._threads)
            grads = results or grads
        else:
            for grad in (grads.input, grads.weight, grads.bias):
                if grad is not None:
                    grad.fill(0)
        return grads.input, grads.weight, grads.bias


def normal_form(
    given: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Call:
    """The arguments, checked; raises as `BatchNorm.forward` does."""
    given = float_array("input", given, RANKS)
    training = flag("training", training)
    momentum, eps = _number("momentum", momentum), _number("eps", eps)
    if eps < 0 or (training and eps == 0):
        least = "above 0 in training" if training else "at least 0"
        raise ValueError(f"eps must be {least}, got {eps}")
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must both be given or both be None")
    if running_mean is None and not training:
        raise ValueError("running_mean and running_var must be given unless in training, got None")
    if training and given.shape[0] * math.prod(given.shape[2:]) == 1:
        raise ValueError(
            f"input must have more than one value per channel in training, got shape {given.shape}"
        )
    return Call(
        input=given,
        running_mean=_per_channel("running_mean", running_mean, given),
        running_var=_per_channel("running_var", running_var, given),
        weight=_per_channel("weight", weight, given),
        bias=_per_channel("bias", bias, given),
        training=training,
        momentum=momentum,
        eps=eps,
        channels_last=_channels_innermost(given),
    )


def saved_statistics(mean: Array | None, invstd: Array | None, call: Call) -> Saved | None:
    """What counts of them in this call; raises as `BatchNorm.backward` does."""
    if (mean is None) != (invstd is None):
        raise ValueError("save_mean and save_invstd must both be given or both be None")
    mean = _per_channel("save_mean", mean, call.input)
    invstd = _per_channel("save_invstd", invstd, call.input)
    if mean is None or invstd is None or not call.training:
        return None
    return Saved(mean, invstd)


def _per_channel(name: str, value: Array | None, given: Array) -> Array | None:
    if value is None:
        return None
    array = float_array(name, value, (1,), like=given)
    if array.shape != given.shape[1:2]:
        raise ValueError(f"{name} must have shape {given.shape[1:2]}, got {array.shape}")
    return array.copy()


def _number(name: str, value: object) -> float:
    if isinstance(value, float):
        return value
    if not isinstance(value, (Real, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def _channels_innermost(array: Array) -> bool:
    """Whether torch would lay the result so: for channels-last images and volumes."""
    if array.ndim == 5:
        # Strides C <= W <= H <= N and C <= H <= D <= N, each at least the one below times its size
        return is_channels_last(array[:, :, 0]) and is_channels_last(array[..., 0])
    return is_channels_last(array)


def _like(call: Call) -> Array:
    shape, dtype = call.input.shape, call.input.dtype
    if len(shape) == 4 or not call.channels_last:
        return empty(shape, dtype, channels_last=call.channels_last)
    order = CHANNELS_LAST[5]
    return empty([shape[axis] for axis in order], dtype).transpose(inverse(order))
