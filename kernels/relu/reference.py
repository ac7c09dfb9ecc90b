"""PyTorch itself: the functions that `torch.nn.functional.relu` and its gradient call."""

from __future__ import annotations

from kernels.arrays import Array
from kernels.pytorch import ByTorch, tensor, torch_threads
from kernels.relu.operator import ReluAlgorithm


class Reference(ByTorch, ReluAlgorithm):
    """ATen's clamp_min, which is what relu calls, and threshold_backward."""

    def forward(self, input: Array, output: Array, threads: int | None) -> None:  # noqa: A002
        """Fill `output`."""
        import torch

        with torch_threads(threads):
            torch.clamp_min(tensor(input), 0, out=tensor(output))

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002
        grad_input: Array,
        threads: int | None,
    ) -> None:
        """Fill `grad_input`."""
        import torch

        with torch_threads(threads):
            torch.ops.aten.threshold_backward.grad_input(
                tensor(grad_output), tensor(input), 0, grad_input=tensor(grad_input)
            )
