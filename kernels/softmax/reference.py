"""PyTorch itself: the functions that `torch.nn.functional.softmax` and its gradient call."""

from __future__ import annotations

from kernels.arrays import Array
from kernels.pytorch import tensor, torch_threads, torch_unavailable_reason
from kernels.softmax.operator import Call


class Reference:
    """ATen's _softmax and _softmax_backward_data."""

    threaded = True

    def unavailable_reason(self) -> str | None:
        """Why PyTorch cannot be used, or None."""
        return torch_unavailable_reason()

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`, shaped as the input."""
        import torch

        with torch_threads(threads):
            torch.ops.aten._softmax.out(tensor(call.input), call.dim, False, out=tensor(output))

    def backward(
        self, call: Call, grad_output: Array, output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input` from the gradient of the output and the output itself."""
        import torch

        result = tensor(grad_input)
        with torch_threads(threads):
            torch.ops.aten._softmax_backward_data.out(
                tensor(grad_output), tensor(output), call.dim, result.dtype, grad_input=result
            )
