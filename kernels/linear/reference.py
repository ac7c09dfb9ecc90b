"""PyTorch itself: the products that `torch.nn.functional.linear` and its gradient call."""

from __future__ import annotations

from kernels.arrays import Array
from kernels.linear.operator import Call, Gradients, LinearAlgorithm
from kernels.pytorch import ByTorch, tensor, torch_threads


class Reference(ByTorch, LinearAlgorithm):
    """ATen's addmm and mm, on the arrays' own memory."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, O]."""
        import torch

        given, weight, result = tensor(call.input), tensor(call.weight), tensor(output)
        with torch_threads(threads), torch.no_grad():
            if call.bias is None:
                torch.mm(given, weight.t(), out=result)
            else:
                torch.addmm(tensor(call.bias), given, weight.t(), out=result)

    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> None:
        """Fill the gradients from the output's [N, O]."""
        import torch

        grad = tensor(grad_output)
        with torch_threads(threads), torch.no_grad():
            if grads.input is not None:
                torch.mm(grad, tensor(call.weight), out=tensor(grads.input))
            if grads.weight is not None:
                torch.mm(grad.t(), tensor(call.input), out=tensor(grads.weight))
            if grads.bias is not None:
                torch.sum(grad, 0, out=tensor(grads.bias))
