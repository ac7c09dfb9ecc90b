"""PyTorch itself: `torch.nn.functional.cross_entropy` and autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.arrays import Array
from kernels.cross_entropy.operator import Call, CrossEntropyAlgorithm
from kernels.pytorch import ByTorch, tensor, torch_threads

if TYPE_CHECKING:
    from torch import Tensor


class Reference(ByTorch, CrossEntropyAlgorithm):
    """torch on the arrays' own memory."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`: without dimensions, or [N, d1, ...] for reduction "none"."""
        import torch

        with torch_threads(threads), torch.inference_mode():
            output[...] = _loss(call, tensor(call.input)).numpy()

    def backward(
        self, call: Call, grad_output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input`, shaped as the input."""
        import torch

        with torch_threads(threads), torch.inference_mode(False), torch.enable_grad():
            given = tensor(call.input).requires_grad_()
            loss = _loss(call, given)
            (grad,) = torch.autograd.grad(loss, given, tensor(grad_output))
        grad_input[...] = grad.numpy()


def _loss(call: Call, given: Tensor) -> Tensor:
    import torch

    return torch.nn.functional.cross_entropy(
        given,
        tensor(call.target),
        None if call.weight is None else tensor(call.weight),
        ignore_index=call.ignore_index,
        reduction=call.reduction,
        label_smoothing=call.label_smoothing,
    )
