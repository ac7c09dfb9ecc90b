"""PyTorch itself: the functions that `torch.nn.functional.relu` and its gradient call."""

from __future__ import annotations

from kernels.arrays import Array
from kernels.pytorch import tensor, torch_threads, torch_unavailable_reason


class Reference:
    """ATen's clamp_min, which is what relu calls, and threshold_backward."""

    threaded = True

    def unavailable_reason(self) -> str | None:
        """Why PyTorch cannot be used, or None."""
        return torch_unavailable_reason()

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
