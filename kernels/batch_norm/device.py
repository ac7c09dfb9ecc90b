"""batch_norm on a GPU, by batch_norm and statistics, .cu or .metal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernels.arrays import flag, flags
from kernels.batch_norm import device_statistics
from kernels.batch_norm.device_statistics import Channels, DeviceGradients, DeviceStatistics
from kernels.batch_norm.operator import normal_form, saved_statistics
from kernels.gpu.operator import DeviceOperator, ceil_div, zeros
from kernels.pooling import remembered

if TYPE_CHECKING:
    from torch import Tensor

    from kernels.gpu.device import Device

    Sizes = tuple[int, int, int]
    Shape = tuple[int, ...]

THREADS, EACH = 256, 4


class DeviceBatchNorm(DeviceOperator):
    """Each channel brought to mean zero and variance one, then scaled and shifted."""

    source = "batch_norm/batch_norm"
    more_sources = ("batch_norm/statistics", "batch_norm/gradients")

    def __init__(self, device: Device, *, sequential: bool) -> None:
        super().__init__(device, sequential=sequential)
        self._statistics = DeviceStatistics(device, sequential=sequential)
        self._gradients = DeviceGradients(device, sequential=sequential)

    def forward(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *,
        return_statistics: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """[N, C, ...] -> [N, C, ...], by statistics over all but C; the others are [C].

        In training the running statistics are updated in place, on the device. With
        `return_statistics` the result is (output, save_mean, save_invstd). See
        `BatchNorm.forward`. Raises TypeError, ValueError, DeviceError.
        """
        x = self._tensor("input", input)
        channels = self._per_channel(
            x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
        )
        step, eps = _checked(x, channels, training, momentum, eps)
        mean, var, weight, bias = channels
        wanted = flag("return_statistics", return_statistics)
        if wanted and not training:
            raise ValueError("return_statistics must be False unless in training, got True")
        output = x.new_empty(x.shape)
        if not x.numel():
            nothing = x.new_full((2, x.shape[1]), float("nan"))
            return (output, *nothing.unbind()) if wanted else output
        sizes = _sizes(x)
        if training:
            running = None if mean is None or var is None else (mean, var)
            if sizes[0] * sizes[2] <= device_statistics.SMALL:
                stats = self._statistics.normalised(
                    x, output, sizes, eps, running, step, weight, bias
                )
                return (output, stats.mean, stats.spread) if wanted else output
            stats = self._statistics.of(x, sizes, eps, running, step)
        else:
            assert mean is not None
            assert var is not None
            stats = Channels(mean, None, var, True, eps)
        centre, low, has_low = stats.centre
        self._launch(
            "batch_norm_forward",
            ceil_div(x.numel(), THREADS * EACH),
            THREADS,
            *(x, output, centre, low, stats.spread),
            *(centre if weight is None else weight, centre if bias is None else bias),
            *(x.numel(), *sizes[1:], has_low, int(stats.variance)),
            *(int(weight is not None), int(bias is not None), eps),
        )
        return (output, stats.mean, stats.spread) if wanted else output

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *,
        save_mean: Tensor | None = None,
        save_invstd: Tensor | None = None,
        needs: Sequence[bool] = (True, True, True),
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of input, weight and bias, from that of the output.

        `save_mean`, `save_invstd`: what `forward` returned beside the output; without them the
        batch's statistics are computed anew. None for the gradients that `needs` leaves out, and
        for a weight or bias that is not there. Raises as `forward` does.
        """
        x = self._tensor("input", input)
        channels = self._per_channel(
            x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
            save_mean=save_mean, save_invstd=save_invstd,
        )  # fmt: skip
        _, eps = _checked(x, channels, training, momentum, eps)
        mean, var, weight, bias, saved_mean, saved_invstd = channels
        gy = self._tensor("grad_output", grad_output, like=x)
        if gy.shape != x.shape:
            raise ValueError(f"grad_output must have shape {tuple(x.shape)}, got {tuple(gy.shape)}")
        of_input, *others = flags("needs", needs, "input", "weight", "bias")
        of_weight, of_bias = others[0] and weight is not None, others[1] and bias is not None
        grad_input = x.new_empty(x.shape) if of_input else None
        if not x.numel():
            zeros = x.new_zeros((2, x.shape[1])).unbind()
            return grad_input, zeros[0] if of_weight else None, zeros[1] if of_bias else None
        sizes = _sizes(x)
        if training and saved_mean is not None and saved_invstd is not None:
            stats = Channels(saved_mean, None, saved_invstd, False, eps)
        elif training:
            stats = self._statistics.of(x, sizes, eps)
        else:
            assert mean is not None
            assert var is not None
            stats = Channels(mean, None, var, True, eps)
        dot = total = stats.mean
        if of_weight or of_bias or (training and of_input):
            dot, total = self._gradients.of(gy, x, sizes, stats)
        if grad_input is not None:
            centre, low, has_low = stats.centre
            self._launch(
                "batch_norm_backward",
                ceil_div(x.numel(), THREADS * EACH),
                THREADS,
                *(gy, x, grad_input, centre, low, stats.spread),
                *(centre if weight is None else weight, total, dot),
                *(x.numel(), *sizes[1:], sizes[0] * sizes[2], has_low, int(stats.variance)),
                *(int(weight is not None), int(training), eps),
            )
        return grad_input, dot if of_weight else None, total if of_bias else None

    def _per_channel(self, x: Tensor, **named: Tensor | None) -> list[Tensor | None]:
        return [
            None if value is None else self._tensor(name, value, like=x)
            for name, value in named.items()
        ]


def _sizes(x: Tensor) -> Sizes:
    n, c, *rest = x.shape
    return n, c, math.prod(rest)


def _checked(
    x: Tensor, channels: Sequence[Tensor | None], training: bool, momentum: float, eps: float
) -> tuple[float, float]:
    """momentum and eps; raises as `BatchNorm.forward` and `backward` do."""
    shapes = [None if tensor is None else tuple(tensor.shape) for tensor in channels]
    return _check(training, momentum, eps, tuple(x.shape), *shapes)


@remembered
def _check(
    training: bool,
    momentum: float,
    eps: float,
    *shapes: tuple[int, ...] | None,
) -> tuple[float, float]:
    """`shapes`: the input's, the running statistics', weight's and bias', the saved ones'."""
    given, *channels = [None if shape is None else zeros(shape) for shape in shapes]
    call = normal_form(given, *channels[:4], training, momentum, eps)
    if channels[4:]:
        saved_statistics(*channels[4:], call)
    return call.momentum, call.eps
