"""`torch.nn.functional.conv2d` and its gradients: arguments, shapes and memory; no arithmetic."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kernels.arrays import Array, empty, flag, flags, float_array, integer, is_channels_last, pair
from kernels.operator import Algorithm, Operator

Padding = int | str | tuple[int, int] | list[int]
Pair = int | tuple[int, int] | list[int]


class Call(NamedTuple):
    """One convolution in normal form."""

    input: Array
    """[N, C, H, W], any strides."""
    weight: Array
    """[K, C / groups, R, S], any strides."""
    bias: Array | None
    """[K]."""
    stride: tuple[int, int]
    before: tuple[int, int]
    """Zeros above and to the left."""
    after: tuple[int, int]
    """Zeros below and to the right; differs from `before` for padding "same" alone."""
    dilation: tuple[int, int]
    groups: int
    shape: tuple[int, int, int, int]
    """The output's: [N, K, P, Q]."""
    channels_last: bool
    """Whether output and gradients lie in channels-last memory."""
    batched: bool
    relu: bool = False
    """Whether what is negative becomes 0 on its way out."""


@dataclass(frozen=True)
class Gradients:
    """Room for the gradients that are wanted, each as large as its argument."""

    input: Array | None
    weight: Array | None
    bias: Array | None


class Conv2dAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill hold anything before.

    It fills the room that it is given and returns None, or leaves it and returns its own results,
    of the same shapes and in the same memory order.
    """

    fuses_relu: bool = False
    """Whether it sees to `Call.relu` itself."""

    def unsupported(self, call: Call) -> str | None:  # noqa: ARG002
        """Why it does not do this call, or None."""
        return None

    @abstractmethod
    def forward(self, call: Call, output: Array, threads: int | None) -> Array | None:
        """Fill `output` [N, K, P, Q]."""

    @abstractmethod
    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> Gradients | None:
        """Fill the gradients that are not None, from the output's [N, K, P, Q]."""


class Conv2d(Operator[Conv2dAlgorithm]):
    """Two-dimensional cross-correlation."""

    def forward(
        self,
        input: Array,  # noqa: A002 - torch's name
        weight: Array,
        bias: Array | None = None,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        *,
        relu: bool = False,
    ) -> Array:
        """[N, C, H, W] or [C, H, W] -> [N, K, P, Q] or [K, P, Q]; weight [K, C / groups, R, S].

        P = (H + 2 padding - dilation (R - 1) - 1) / stride + 1, rounded down; Q alike. Without
        channels to come in none go out (K = 0), as in torch. With `relu`, which torch has not, what
        is negative becomes 0: one pass over memory less than by the operator `relu`. A NaN or an
        infinity in a weight, times the zeros of the padding, is NaN or is left out, by algorithm:
        torch's own differ in that too. Raises TypeError, ValueError, and NotImplementedError for
        what this algorithm does not do.
        """
        relu = flag("relu", relu)
        call = self._checked(input, weight, bias, stride, padding, dilation, groups, relu)
        output = empty(call.shape, call.input.dtype, channels_last=call.channels_last)
        if output.size:
            own = self._algorithm.forward(call, output, self._threads)
            output = output if own is None else own
            if relu and not self._algorithm.fuses_relu:
                np.maximum(output, 0, out=output)
        return output if call.batched else output[0]

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        weight: Array,
        bias: Array | None = None,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        *,
        needs: Sequence[bool] = (True, True, True),
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of input, weight and bias, from that of the output.

        None for those that `needs` leaves out, and for a bias that is not there. Raises as
        `forward` does.
        """
        call = self._checked(input, weight, bias, stride, padding, dilation, groups)
        wanted = call.shape if call.batched else call.shape[1:]
        grad_output = float_array("grad_output", grad_output, (len(wanted),), like=call.input)
        if grad_output.shape != wanted:
            raise ValueError(f"grad_output must have shape {wanted}, got {grad_output.shape}")
        needs = flags("needs", needs, "input", "weight", "bias")
        grads = Gradients(
            input=_like(call.input, call) if needs[0] else None,
            weight=_like(call.weight, call) if needs[1] else None,
            bias=None
            if call.bias is None or not needs[2]
            else empty(call.bias.shape, call.bias.dtype),
        )
        if grad_output.size:
            batched = grad_output if call.batched else grad_output[None]
            own = self._algorithm.backward(call, batched, grads, self._threads)
            grads = grads if own is None else own
        else:
            for grad in (grads.input, grads.weight, grads.bias):
                if grad is not None:
                    grad.fill(0)
        grad_input = grads.input
        if grad_input is not None and not call.batched:
            grad_input = grad_input[0]
        return grad_input, grads.weight, grads.bias

    def _checked(
        self,
        given: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        groups: int,
        relu: bool = False,
    ) -> Call:
        call = _call(given, weight, bias, stride, padding, dilation, groups, relu)
        reason = self._algorithm.unsupported(call)
        if reason is not None:
            raise NotImplementedError(reason)
        return call


def _call(
    given: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Call:
    given = float_array("input", given, (3, 4))
    weight = float_array("weight", weight, (4,), like=given)
    if bias is not None:
        bias = float_array("bias", bias, (1,), like=given)
    images = given if given.ndim == 4 else given[None]
    said = form(
        given.shape,
        weight.shape,
        None if bias is None else bias.shape,
        stride,
        padding,
        dilation,
        groups,
    )
    channels_last = is_channels_last(images) or is_channels_last(weight)
    return Call(images, weight, bias, *said, channels_last, given.ndim == 4, relu)


def form(
    given: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[Any, ...]:
    """What a call's shapes and numbers say: `Call`'s fields from stride to shape.

    Raises TypeError, ValueError.
    """
    return _form(
        given,
        weight,
        bias,
        pair("stride", stride, 1),
        padding if isinstance(padding, str) else pair("padding", padding, 0),
        pair("dilation", dilation, 1),
        integer("groups", groups, 1),
    )


@functools.lru_cache(maxsize=512)
def _form(
    given: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    stride: tuple[int, int],
    padding: str | tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> tuple[Any, ...]:
    """See `form`. Kept, for a small convolution takes no longer than this.

    What is wrong raises, each time anew.
    """
    n, channels, *size = given if len(given) == 4 else (1, *given)
    filters, depth, *kernel = weight
    if min(filters, *kernel) == 0:
        raise ValueError(f"weight must have filters and a kernel, got shape {weight}")
    if min(size) == 0:
        raise ValueError(f"input must have a height and a width, got shape {given}")
    if channels != depth * groups:
        raise ValueError(
            f"input must have {depth * groups} channels, groups ({groups}) times weight.shape[1] "
            f"({depth}); got shape {given}"
        )
    if filters % groups:
        raise ValueError(f"groups must divide weight's {filters} filters, got {groups}")
    if bias is not None and bias != (filters,):
        raise ValueError(f"bias must have shape ({filters},), got {bias}")
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    before, after = _padding(padding, stride, reach)
    padded = [before[i] + size[i] + after[i] for i in (0, 1)]
    if padded[0] < reach[0] or padded[1] < reach[1]:
        raise ValueError(
            f"weight: its {reach[0]} x {reach[1]} kernel (with dilation) is larger than the "
            f"padded input, {padded[0]} x {padded[1]}"
        )
    rows, columns = ((padded[i] - reach[i]) // stride[i] + 1 for i in (0, 1))
    shape = (n, filters if channels else 0, rows, columns)
    return stride, before, after, dilation, groups, shape


def _padding(
    padding: str | tuple[int, int], stride: tuple[int, int], reach: list[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What is padded (above, left) and (below, right)."""
    if not isinstance(padding, str):
        return padding, padding
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f'padding "same" needs stride 1, got {stride}')
        total = [r - 1 for r in reach]
        before = (total[0] // 2, total[1] // 2)
        return before, (total[0] - before[0], total[1] - before[1])
    raise ValueError(f'padding must be "same", "valid", an int or a pair, got {padding!r}')


def _like(array: Array, call: Call) -> Array:
    return empty(array.shape, array.dtype, channels_last=call.channels_last)
