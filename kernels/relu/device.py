"""relu on a GPU, by relu.cu or relu.metal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.gpu.operator import DeviceOperator, ceil_div

if TYPE_CHECKING:
    from torch import Tensor

THREADS, EACH = 256, 4


class DeviceRelu(DeviceOperator):
    """max(x, 0), element by element, on contiguous float32 tensors."""

    source = "relu/relu"

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """[...] -> [...]. Raises TypeError, ValueError, DeviceError."""
        x = self._tensor("input", input)
        output = x.new_empty(x.shape)
        self._over(x.numel(), "relu_forward", x, output)
        return output

    def backward(self, grad_output: Tensor, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """The gradient of the input, from that of the output. Raises as `forward` does."""
        x = self._tensor("input", input)
        gy = self._tensor("grad_output", grad_output, like=x)
        if gy.shape != x.shape:
            raise ValueError(f"grad_output must have shape {tuple(x.shape)}, got {tuple(gy.shape)}")
        grad_input = x.new_empty(x.shape)
        self._over(x.numel(), "relu_backward", gy, x, grad_input)
        return grad_input

    def _over(self, count: int, kernel: str, *tensors: Tensor) -> None:
        if count:
            self._launch(kernel, ceil_div(count, THREADS * EACH), THREADS, *tensors, count)
