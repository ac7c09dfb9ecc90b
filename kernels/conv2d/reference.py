"""PyTorch itself, on the arrays' own memory; its results are torch's, not copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.arrays import Array
from kernels.conv2d.operator import Call, Conv2dAlgorithm, Gradients
from kernels.pytorch import ByTorch, tensor, torch_threads

if TYPE_CHECKING:
    from torch import Tensor


class Reference(ByTorch, Conv2dAlgorithm):
    """torch.conv2d and torch's own backward."""

    def forward(self, call: Call, output: Array, threads: int | None) -> Array:  # noqa: ARG002
        """torch's own array: torch.conv2d cannot write into one that is there."""
        import torch

        bias = None if call.bias is None else tensor(call.bias)
        geometry = (call.stride, call.before, call.dilation, call.groups)
        with torch_threads(threads):
            result = torch.conv2d(_evenly_padded(call), tensor(call.weight), bias, *geometry)
        array: Array = result.numpy()
        return array

    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> Gradients:
        """torch's own arrays, by what autograd calls."""
        import torch

        needs = (grads.input is not None, grads.weight is not None, grads.bias is not None)
        with torch_threads(threads):
            results = torch.ops.aten.convolution_backward(
                tensor(grad_output),
                _evenly_padded(call),
                tensor(call.weight),
                [call.shape[1]],
                call.stride,
                call.before,
                call.dilation,
                False,
                (0, 0),
                call.groups,
                needs,
            )
            below, right = _more_after(call)
            if needs[0] and (below or right):
                cut = torch.constant_pad_nd(results[0], (0, -right, 0, -below))
                results = (cut, *results[1:])
        return Gradients(
            *(result.numpy() if need else None for result, need in zip(results, needs, strict=True))
        )


def _evenly_padded(call: Call) -> Tensor:
    """The input, with the rows and columns of zeros that are wanted at its end alone.

    What torch does for padding "same" with an even reach; done here because torch warns of it.
    """
    import torch

    below, right = _more_after(call)
    given = tensor(call.input)
    return torch.constant_pad_nd(given, (0, right, 0, below)) if below or right else given


def _more_after(call: Call) -> tuple[int, int]:
    return call.after[0] - call.before[0], call.after[1] - call.before[1]
