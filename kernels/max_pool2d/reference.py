"""PyTorch itself, on the arrays' own memory."""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.max_pool2d.operator import Call, MaxPool2dAlgorithm
from kernels.pytorch import ByTorch, tensor, torch_threads


class Reference(ByTorch, MaxPool2dAlgorithm):
    """torch's max_pool2d_with_indices, which its max_pool2d calls too, and what autograd calls."""

    def forward(
        self, call: Call, output: Array, indices: Array | None, threads: int | None
    ) -> None:
        """Fill `output` and `indices` [N, C, P, Q]."""
        import torch

        with torch_threads(threads):
            place = torch.empty_like(tensor(output), dtype=torch.int64)
            if indices is not None:
                place = tensor(indices)
            torch.ops.aten.max_pool2d_with_indices.out(
                tensor(call.input), *_arguments(call), out=tensor(output), indices=place
            )

    def backward(
        self, call: Call, grad_output: Array, indices: Array, grad_input: Array, threads: int | None
    ) -> int:
        """Fill `grad_input`; returns how many indices point into the input.

        torch looks at none of them, and would write wherever they point; those outside of the
        input are kept from it. One inside, but not in its window, gets its gradient, as in torch.
        """
        import torch

        with torch_threads(threads):
            given, place = tensor(grad_output), tensor(indices)
            inside = place.numel()
            end = grad_input.shape[2] * grad_input.shape[3]
            if indices.view(np.uint64).max() >= end:  # where negative ones are huge
                outside = (place < 0) | (place >= end)
                inside -= int(outside.sum())
                given, place = given.masked_fill(outside, 0), place.masked_fill(outside, 0)
            torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
                given, tensor(call.input), *_arguments(call), place, grad_input=tensor(grad_input)
            )
        return inside


def _arguments(call: Call) -> tuple[object, ...]:
    window = call.window
    return window.kernel, window.stride, window.padding, window.dilation, window.ceil_mode
