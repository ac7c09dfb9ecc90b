"""PyTorch itself: `torch.add`, and what its autograd does for the gradients."""

from __future__ import annotations

from kernels.add.operator import AddAlgorithm, Call, Fold
from kernels.arrays import Array
from kernels.pytorch import ByTorch, tensor, torch_threads


class Reference(ByTorch, AddAlgorithm):
    """ATen's add, mul and sum, into the room that is given."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`."""
        import torch

        with torch_threads(threads):
            torch.add(tensor(call.input), tensor(call.other), alpha=call.alpha, out=tensor(output))

    def backward(self, fold: Fold, grad: Array, threads: int | None) -> None:
        """Fill `grad`."""
        import torch

        axes = [i for i, size in enumerate(grad.shape) if size != fold.grad.shape[i]]
        with torch_threads(threads):
            given, result = tensor(fold.grad), tensor(grad)
            if axes:
                torch.sum(given, axes, keepdim=True, out=result)
            if not axes or fold.alpha != 1:
                torch.mul(result if axes else given, fold.alpha, out=result)
