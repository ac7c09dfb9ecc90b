"""adaptive_avg_pool2d on a GPU; averaging over any grid of windows is avg_pool2d's affair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.adaptive_avg_pool2d.operator import Size, adaptive_call, check_outputs
from kernels.avg_pool2d.device import DeviceAveraging
from kernels.gpu.operator import zeros
from kernels.gpu.windows import Windows, windows_on
from kernels.pooling import remembered

if TYPE_CHECKING:
    from torch import Tensor


class DeviceAdaptiveAvgPool2d(DeviceAveraging):
    """The means of windows that share the input out, on contiguous float32 tensors."""

    def forward(self, input: Tensor, output_size: Size) -> Tensor:  # noqa: A002 - torch's name
        """[N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q].

        `output_size` as `AdaptiveAvgPool2d.forward` has it. Raises TypeError, ValueError,
        DeviceError.
        """
        x = self._tensor("input", input)
        return self._forward(x, _windows(tuple(x.shape), str(x.device), output_size))

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        output_size: Size,
    ) -> Tensor:
        """The gradient of the input, from that of the output. Raises as `forward` does.

        As in torch, `grad_output` may be empty in its batch alone.
        """
        x = self._tensor("input", input)
        windows = _windows(tuple(x.shape), str(x.device), output_size)
        gy = self._tensor("grad_output", grad_output, like=x)
        windows.check("grad_output", gy)
        check_outputs(windows.shape)
        return self._backward(gy, x, windows)


@remembered
def _windows(shape: tuple[int, ...], device: str, output_size: Size) -> Windows:
    """Raises as `AdaptiveAvgPool2d.forward` does."""
    call = adaptive_call(zeros(shape), output_size)
    return windows_on(device, shape, call.grid)
