"""`torch.nn.functional.avg_pool2d` and its gradient: arguments, shapes, memory; no arithmetic.

The algorithms take any grid of windows, so that adaptive_avg_pool2d uses them too.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np

from kernels.arrays import MOST, Array, empty, flag, integer, is_channels_last
from kernels.operator import Algorithm, Operator
from kernels.pooling import Grid, Pair, Window, gradient, remembered, whole_images


class Call(NamedTuple):
    """One averaging in normal form."""

    input: Array
    """[N, C, H, W], any strides."""
    grid: Grid
    shape: tuple[int, int, int, int]
    """The output's: [N, C, P, Q]."""
    channels_last: bool
    """Whether the input lies in channels-last memory, and so all results."""
    batched: bool
    arguments: tuple[Any, ...]
    """What torch's function takes after the input."""


class AveragingAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill hold anything before.

    A window's result is its sum over the product of its row's and its column's share.
    """

    @abstractmethod
    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, C, P, Q]."""

    @abstractmethod
    def backward(
        self, call: Call, grad_output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input` [N, C, H, W]."""


class AvgPool2d(Operator[AveragingAlgorithm]):
    """The mean of each window."""

    def forward(
        self,
        input: Array,  # noqa: A002 - torch's name
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Array:
        """[N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q].

        P = (H + 2 padding - R) / stride + 1, rounded down, or up in ceil mode; Q alike. Sums are
        divided by `divisor_override`, else by the number of places, those of the padding counted
        where `count_include_pad`. Raises TypeError and ValueError.
        """
        call = averaging_call(
            input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
        return run_forward(self._algorithm, call, self._threads)

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Array:
        """The gradient of the input, from that of the output. Raises as `forward` does."""
        call = averaging_call(
            input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
        given = gradient(grad_output, call.input, call.shape, call.batched)
        return run_backward(self._algorithm, call, given, self._threads)


def run_forward(algorithm: AveragingAlgorithm, call: Call, threads: int | None) -> Array:
    """Make room for the output, and have it filled."""
    output = empty(call.shape, call.input.dtype, channels_last=call.channels_last)
    if output.size and call.input.size:
        algorithm.forward(call, output, threads)
    else:
        output.fill(np.nan)  # the mean of no pixels
    return output if call.batched else output[0]


def run_backward(
    algorithm: AveragingAlgorithm, call: Call, grad_output: Array, threads: int | None
) -> Array:
    """Make room for the gradient, and have it filled."""
    grad_input = empty(call.input.shape, call.input.dtype, channels_last=call.channels_last)
    if grad_output.size and grad_input.size:
        algorithm.backward(call, grad_output, grad_input, threads)
    return grad_input if call.batched else grad_input[0]


def averaging_call(given: Array, *arguments: Any) -> Call:
    """Checked; `arguments`: those of avg_pool2d behind the input, in its order."""
    images, batched = whole_images(given)
    grid, checked = _grid(images.shape[2:], *arguments)
    return Call(
        input=images,
        grid=grid,
        shape=(*images.shape[:2], grid.rows.outputs, grid.columns.outputs),
        channels_last=batched and is_channels_last(images),
        batched=batched,
        arguments=checked,
    )


@remembered
def _grid(
    sizes: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> tuple[Grid, tuple[Any, ...]]:
    """The windows, and the arguments in normal form."""
    window = Window.checked(kernel_size, stride, padding, 1, ceil_mode)
    padded = flag("count_include_pad", count_include_pad)
    share = "padded" if padded else "inside"
    shares: tuple[str | int, str | int] = (share, share)
    if divisor_override is not None:
        divisor_override = integer("divisor_override", divisor_override, -MOST)
        if divisor_override == 0:
            raise ValueError("divisor_override must not be 0")
        shares = (divisor_override, 1)
    pairs = (window.kernel, window.stride, window.padding)
    return window.grid(sizes, shares), (*pairs, window.ceil_mode, padded, divisor_override)
