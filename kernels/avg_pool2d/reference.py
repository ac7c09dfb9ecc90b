"""PyTorch itself, on the arrays' own memory."""

from __future__ import annotations

from kernels.arrays import Array
from kernels.avg_pool2d.operator import Call
from kernels.pytorch import tensor, torch_threads, torch_unavailable_reason


class Reference:
    """ATen's avg_pool2d, and what autograd calls."""

    threaded = True

    def unavailable_reason(self) -> str | None:
        """Why PyTorch cannot be used, or None."""
        return torch_unavailable_reason()

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, C, P, Q]."""
        import torch

        with torch_threads(threads):
            torch.ops.aten.avg_pool2d.out(tensor(call.input), *call.arguments, out=tensor(output))

    def backward(
        self, call: Call, grad_output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input` [N, C, H, W]."""
        import torch

        with torch_threads(threads):
            torch.ops.aten.avg_pool2d_backward.grad_input(
                tensor(grad_output),
                tensor(call.input),
                *call.arguments,
                grad_input=tensor(grad_input),
            )
