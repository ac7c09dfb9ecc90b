"""PyTorch itself, on the arrays' own memory."""

from __future__ import annotations

from kernels.arrays import Array
from kernels.avg_pool2d.operator import AveragingAlgorithm, Call
from kernels.pytorch import ByTorch, tensor, torch_threads


class Reference(ByTorch, AveragingAlgorithm):
    """What ATen's adaptive_avg_pool2d and autograd call: for 1 x 1 the mean and its gradient."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, C, P, Q]."""
        import torch

        with torch_threads(threads):
            x, y = tensor(call.input), tensor(output)
            if call.shape[2:] == (1, 1):
                torch.mean(x, (-1, -2), keepdim=True, out=y)
            else:
                torch.ops.aten._adaptive_avg_pool2d.out(x, *call.arguments, out=y)

    def backward(
        self, call: Call, grad_output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input` [N, C, H, W]."""
        import torch

        with torch_threads(threads):
            x, gy, gx = tensor(call.input), tensor(grad_output), tensor(grad_input)
            if call.shape[2:] == (1, 1):
                torch.div(gy.expand_as(x), x.shape[2] * x.shape[3], out=gx)
            else:
                torch.ops.aten._adaptive_avg_pool2d_backward.out(gy, x, out=gx)
