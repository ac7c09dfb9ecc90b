"""max_pool2d on a GPU, by max_pool2d.cu or max_pool2d.metal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.arrays import flag
from kernels.gpu.operator import DeviceOperator, ceil_div, zeros
from kernels.gpu.windows import Windows, windows_on
from kernels.max_pool2d.operator import pooling_call
from kernels.pooling import Pair, remembered

if TYPE_CHECKING:
    from torch import Tensor

THREADS = 256


class DeviceMaxPool2d(DeviceOperator):
    """The greatest of each window, on contiguous float32 tensors."""

    source = "max_pool2d/max_pool2d"

    def forward(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """[N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q], and int64 indices where wanted.

        Sizes and indices as `MaxPool2d.forward` tells. Raises TypeError, ValueError, DeviceError.
        """
        x = self._tensor("input", input)
        windows, steps = _windows(
            tuple(x.shape), str(x.device), kernel_size, stride, padding, dilation, ceil_mode
        )
        wanted = flag("return_indices", return_indices)
        output, indices = self._search(x, windows, steps, wanted)
        return (output, indices) if wanted else output

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        *,
        indices: Tensor | None = None,
    ) -> Tensor:
        """The gradient of the input, from that of the output; `indices` spare another search.

        Where they point cannot be seen from here: what points out of its window is lost, and its
        gradient goes nowhere. Raises as `forward` does.
        """
        x = self._tensor("input", input)
        windows, steps = _windows(
            tuple(x.shape), str(x.device), kernel_size, stride, padding, dilation, ceil_mode
        )
        flag("return_indices", return_indices)
        gy = self._tensor("grad_output", grad_output, like=x)
        windows.check("grad_output", gy)
        if indices is None:
            _, indices = self._search(x, windows, steps, True)
        else:
            indices = self._tensor("indices", indices, like=x, dtype="int64")
            windows.check("indices", indices)
        grad_input = x.new_empty(x.shape)
        if not windows.filled:
            grad_input.zero_()
        elif windows.inputs:
            halving, each = windows.halved(gy, indices, grad_input)
            planes, height, *_ = windows.sizes
            threads = windows.inputs
            if halving:
                threads = planes * ceil_div(height, 2) * (windows.sizes[4] // each)
            self._launch(
                "max_pool2d_backward",
                ceil_div(threads, THREADS),
                THREADS,
                *(gy, indices, grad_input, windows.rows, windows.columns),
                *(*windows.sizes, halving, each),
            )
        return grad_input

    def _search(
        self, x: Tensor, windows: Windows, steps: tuple[int, int], wanted: bool
    ) -> tuple[Tensor, Tensor]:
        """The greatest, and where they are; where that is not `wanted`, any tensor."""
        import torch

        output = x.new_empty(windows.shape)
        indices = x.new_empty(windows.shape, dtype=torch.int64) if wanted else windows.rows
        if windows.outputs:
            halving, each = windows.halved(x, output, *([indices] if wanted else []))
            self._launch(
                "max_pool2d_forward",
                ceil_div(windows.outputs, THREADS * each),
                THREADS,
                *(x, output, indices, windows.rows, windows.columns),
                *(*windows.sizes, *steps, int(wanted), halving, each),
            )
        return output, indices


@remembered
def _windows(
    shape: tuple[int, ...],
    device: str,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> tuple[Windows, tuple[int, int]]:
    """The windows, and how far apart what they hold lies; raises as `MaxPool2d.forward` does."""
    call = pooling_call(zeros(shape), kernel_size, stride, padding, dilation, ceil_mode)
    window = call.window
    kind = (window.kernel, window.stride, window.padding, window.dilation)
    return windows_on(device, shape, call.grid, kind), window.dilation
