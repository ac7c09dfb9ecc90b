"""PyTorch itself, on the arrays' own memory."""

from __future__ import annotations

from kernels.arrays import Array
from kernels.avg_pool2d.operator import AveragingAlgorithm, Call
from kernels.pytorch import ByTorch, tensor, torch_threads


class Reference(ByTorch, AveragingAlgorithm):
    """ATen's avg_pool2d, and what autograd calls."""

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
