"""PyTorch itself: what `torch.nn.functional.softmax`, `log_softmax` and their gradients call."""

from __future__ import annotations

from kernels.arrays import Array
from kernels.pytorch import ByTorch, tensor, torch_threads
from kernels.softmax.operator import Call, SoftmaxAlgorithm


class Reference(ByTorch, SoftmaxAlgorithm):
    """ATen's _softmax and _softmax_backward_data, or those of the logarithm."""

    def __init__(self, *, log: bool) -> None:
        self._log = log

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`, shaped as the input."""
        import torch

        function = torch.ops.aten._log_softmax if self._log else torch.ops.aten._softmax
        with torch_threads(threads):
            function.out(tensor(call.input), call.dim, False, out=tensor(output))

    def backward(
        self, call: Call, grad_output: Array, output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input` from the gradient of the output and the output itself."""
        import torch

        result = tensor(grad_input)
        arguments = tensor(grad_output), tensor(output), call.dim, result.dtype
        with torch_threads(threads):
            if self._log:
                torch.ops.aten._log_softmax_backward_data.out(*arguments, out=result)
            else:
                torch.ops.aten._softmax_backward_data.out(*arguments, grad_input=result)
