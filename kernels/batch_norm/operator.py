"""`torch.nn.functional.batch_norm` and its gradients: arguments, shapes and memory.

    y = (x - mean) / sqrt(var + eps) * weight + bias

with the batch's own mean and biased variance in training, the running ones otherwise (Ioffe and
Szegedy, 2015, https://arxiv.org/abs/1502.03167). Means, variances and sums of gradients are
computed in float64 whatever the dtype, and the mean is subtracted before anything is multiplied.
What is left to round is, for u the unit roundoff of the dtype and r = 1 / sqrt(var + eps): the
difference, the factor r weight, their product and the last sum, at most 4 u S with
S = |x - mean| r |weight| + |bias|. To that comes, in float64 alone, the error of the mean itself
as a sum, u mean(|x|) r |weight| times the length of its longest chain of additions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from numbers import Real

import numpy as np

from kernels.arrays import Array, empty, flag, float_array, is_channels_last
from kernels.elementwise import CHANNELS_LAST, inverse
from kernels.operator import Algorithm, Operator

RANKS = range(2, 65)


@dataclass(frozen=True)
class Call:
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


class BatchNormAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill hold anything before."""

    @abstractmethod
    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, C, ...]; in training update the call's running statistics too."""

    @abstractmethod
    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> Gradients | None:
        """Fill the gradients that are not None, or return others, from the output's [N, C, ...]."""


class BatchNorm(Operator[BatchNormAlgorithm]):
    """Each channel brought to mean zero and variance one, then scaled and shifted."""

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
    ) -> Array:
        """[N, C, ...] -> [N, C, ...], by statistics over all but C; the others are [C].

        In training the running statistics, where given, become in place
        (1 - momentum) running + momentum batch, with the batch's unbiased variance; a batch
        without elements leaves them. Raises TypeError, ValueError.
        """
        call = _call(input, running_mean, running_var, weight, bias, training, momentum, eps)
        if training:
            for name, running in (("running_mean", running_mean), ("running_var", running_var)):
                if running is not None and not running.flags.writeable:
                    raise ValueError(f"{name} must be writable in training, got a read-only array")
        output = _like(call)
        if output.size:
            self._algorithm.forward(call, output, self._threads)
            if training and running_mean is not None and running_var is not None:
                running_mean[...] = call.running_mean
                running_var[...] = call.running_var
        return output

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
        needs: tuple[bool, bool, bool] = (True, True, True),
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of input, weight and bias, from that of the output.

        None for those that `needs` leaves out, and for a weight or bias that is not there. The
        running statistics stay as they are. Raises as `forward` does.
        """
        call = _call(input, running_mean, running_var, weight, bias, training, momentum, eps)
        grad_output = float_array("grad_output", grad_output, RANKS, like=call.input)
        if grad_output.shape != call.input.shape:
            raise ValueError(
                f"grad_output must have shape {call.input.shape}, got {grad_output.shape}"
            )
        channels = call.input.shape[1:2]
        dtype = call.input.dtype
        grads = Gradients(
            input=_like(call) if needs[0] else None,
            weight=empty(channels, dtype) if needs[1] and call.weight is not None else None,
            bias=empty(channels, dtype) if needs[2] and call.bias is not None else None,
        )
        if grad_output.size:
            grads = self._algorithm.backward(call, grad_output, grads, self._threads) or grads
        else:
            for grad in (grads.input, grads.weight, grads.bias):
                if grad is not None:
                    grad.fill(0)
        return grads.input, grads.weight, grads.bias


def _call(
    given: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Call:
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


def _per_channel(name: str, value: Array | None, given: Array) -> Array | None:
    if value is None:
        return None
    array = float_array(name, value, (1,), like=given)
    if array.shape != given.shape[1:2]:
        raise ValueError(f"{name} must have shape {given.shape[1:2]}, got {array.shape}")
    return np.array(array, order="C")


def _number(name: str, value: object) -> float:
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
    if not call.channels_last:
        return empty(shape, dtype)
    order = CHANNELS_LAST[len(shape)]
    return empty([shape[axis] for axis in order], dtype).transpose(inverse(order))
