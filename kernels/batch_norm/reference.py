"""PyTorch itself: the functions that `torch.nn.functional.batch_norm` and its gradients call.

They write into the caller's memory forward, and return their own backward. The gradients need the
batch's mean and deviation, which autograd has from the forward pass: they are computed anew here
where they are not given.

An input with gaps between its numbers, or in another order than the output, is copied in training:
of such a one, torch 2.15's function that writes into given memory takes a mean that nobody set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.arrays import Array
from kernels.batch_norm.operator import BatchNormAlgorithm, Call, Gradients, Saved
from kernels.pytorch import ByTorch, tensor, torch_threads

if TYPE_CHECKING:
    from torch import memory_format


class Reference(ByTorch, BatchNormAlgorithm):
    """ATen's native_batch_norm and native_batch_norm_backward."""

    def forward(self, call: Call, output: Array, saved: Saved | None, threads: int | None) -> None:
        """Fill `output` and `saved`; update the running statistics in training."""
        import torch

        arrays = (call.input, call.weight, call.bias, call.running_mean, call.running_var)
        with torch_threads(threads):
            x, *rest = [None if array is None else tensor(array) for array in arrays]
            if call.training:
                x = x.contiguous(memory_format=_memory_format(call))
            torch.ops.aten.native_batch_norm.out(
                x,
                *rest,
                call.training,
                call.momentum,
                call.eps,
                out=tensor(output),
                save_mean=torch.empty(0, dtype=x.dtype) if saved is None else tensor(saved.mean),
                save_invstd=torch.empty(0, dtype=x.dtype)
                if saved is None
                else tensor(saved.invstd),
            )

    def backward(
        self,
        call: Call,
        saved: Saved | None,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,
    ) -> Gradients:
        """torch's own arrays, by what autograd calls."""
        import torch

        arrays = (grad_output, call.input, call.weight, call.running_mean, call.running_var)
        needs = [grad is not None for grad in (grads.input, grads.weight, grads.bias)]
        with torch_threads(threads):
            gy, x, weight, mean, var = [
                None if array is None else tensor(array) for array in arrays
            ]
            batch = (None, None)
            if saved is not None:
                batch = tensor(saved.mean), tensor(saved.invstd)
            elif call.training:
                batch_mean, batch_var = torch.batch_norm_update_stats(x, None, None, call.momentum)
                batch = (batch_mean, torch.rsqrt(batch_var + call.eps))
            results = torch.ops.aten.native_batch_norm_backward(
                gy, x, weight, mean, var, *batch, call.training, call.eps, needs
            )
        return Gradients(
            *(result.numpy() if need else None for result, need in zip(results, needs, strict=True))
        )


def _memory_format(call: Call) -> memory_format:
    """The output's."""
    import torch

    if not call.channels_last:
        return torch.contiguous_format
    return torch.channels_last if call.input.ndim == 4 else torch.channels_last_3d
