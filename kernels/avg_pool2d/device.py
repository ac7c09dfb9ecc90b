"""avg_pool2d on a GPU, and averages over any grid of windows, by avg_pool2d.cu or .metal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.avg_pool2d.operator import averaging_call
from kernels.gpu.operator import DeviceOperator, ceil_div, zeros
from kernels.gpu.windows import Windows, windows_on
from kernels.pooling import Pair, remembered

if TYPE_CHECKING:
    from torch import Tensor

THREADS, WARP = 256, 32
FEW = 512
"""Numbers in a window that one warp adds up; a block for more."""


class DeviceAveraging(DeviceOperator):
    """Averages over a grid of windows, on contiguous float32 tensors."""

    source = "avg_pool2d/avg_pool2d"

    def _forward(self, x: Tensor, windows: Windows) -> Tensor:
        output = x.new_empty(windows.shape)
        if windows.outputs and windows.inputs:
            halving, each = windows.halved(x, output)
            team = _team(windows) if windows.spans_rows else 1
            self._launch(
                "avg_pool2d_forward",
                ceil_div(windows.outputs * team, THREADS * each),
                THREADS,
                *(x, output, windows.rows, windows.columns, *windows.sizes, halving, each, team),
            )
        else:
            output.fill_(float("nan"))  # the mean of no pixels
        return output

    def _backward(self, gy: Tensor, x: Tensor, windows: Windows) -> Tensor:
        grad_input = x.new_empty(x.shape)
        if windows.outputs and windows.inputs:
            planes, height, _, _, q = windows.sizes
            halving, each = windows.halved(gy, grad_input)
            team, threads = 1, windows.inputs
            if halving:
                threads = planes * ceil_div(height, 2) * (q // each)
            elif windows.whole:
                team = _team(windows)
                threads = planes * team
            self._launch(
                "avg_pool2d_backward",
                ceil_div(threads, THREADS),
                THREADS,
                *(gy, grad_input, windows.rows, windows.columns),
                *(*windows.sizes, halving, each, team),
            )
        return grad_input


class DeviceAvgPool2d(DeviceAveraging):
    """The mean of each window, on contiguous float32 tensors."""

    def forward(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        """[N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q]; sizes as `AvgPool2d.forward`.

        Raises TypeError, ValueError, DeviceError.
        """
        x = self._tensor("input", input)
        arguments = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return self._forward(x, _windows(tuple(x.shape), str(x.device), *arguments))

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        """The gradient of the input, from that of the output. Raises as `forward` does."""
        x = self._tensor("input", input)
        arguments = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        windows = _windows(tuple(x.shape), str(x.device), *arguments)
        gy = self._tensor("grad_output", grad_output, like=x)
        windows.check("grad_output", gy)
        return self._backward(gy, x, windows)


def _team(windows: Windows) -> int:
    """How many threads add up a window that is whole rows."""
    _, height, width, p, _ = windows.sizes
    return WARP if ceil_div(height, p) * width <= FEW else THREADS


@remembered
def _windows(
    shape: tuple[int, ...],
    device: str,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Windows:
    """Raises as `AvgPool2d.forward` does."""
    call = averaging_call(
        zeros(shape),
        *(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override),
    )
    kernel, stride, padding, *_ = call.arguments
    kind = (kernel, stride, padding, (1, 1))
    return windows_on(device, shape, call.grid, kind if kernel == (2, 2) else ())
