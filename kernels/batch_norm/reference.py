"""PyTorch itself: the functions that `torch.nn.functional.batch_norm` and its gradients call.

They write into the caller's memory forward, and return their own backward. The gradients need the
batch's mean and deviation, which autograd has from the forward pass: they are computed anew here.

What is neither contiguous nor channels-last is copied before training: torch 2.15's own function
that writes into given memory leaves the mean of such an input uninitialised.
"""

from __future__ import annotations

from kernels.arrays import Array
from kernels.batch_norm.operator import Call, Gradients
from kernels.pytorch import tensor, torch_threads, torch_unavailable_reason


class Reference:
    """ATen's native_batch_norm and native_batch_norm_backward."""

    threaded = True

    def unavailable_reason(self) -> str | None:
        """Why PyTorch cannot be used, or None."""
        return torch_unavailable_reason()

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`; update the running statistics in training."""
        import torch

        arrays = (call.input, call.weight, call.bias, call.running_mean, call.running_var)
        with torch_threads(threads):
            x, *rest = [None if array is None else tensor(array) for array in arrays]
            if call.training and not call.channels_last:
                x = x.contiguous()
            torch.ops.aten.native_batch_norm.out(
                x,
                *rest,
                call.training,
                call.momentum,
                call.eps,
                out=tensor(output),
                save_mean=torch.empty(0, dtype=x.dtype),
                save_invstd=torch.empty(0, dtype=x.dtype),
            )

    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
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
            if call.training:
                batch_mean, batch_var = torch.batch_norm_update_stats(x, None, None, call.momentum)
                batch = (batch_mean, torch.rsqrt(batch_var + call.eps))
            results = torch.ops.aten.native_batch_norm_backward(
                gy, x, weight, mean, var, *batch, call.training, call.eps, needs
            )
        return Gradients(
            *(result.numpy() if need else None for result, need in zip(results, needs, strict=True))
        )
