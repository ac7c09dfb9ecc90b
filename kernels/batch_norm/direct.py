"""Chunks that stay in the cache, each swept for its mean, then for what needs the mean.

| memory                        | what a task is                                                  |
|-------------------------------|-----------------------------------------------------------------|
| planes [N, C, L]              | channels: sums, then the result, while the channel is in cache  |
| rows [N L, C], channels last  | a block of rows: sums, put together; then a second pass         |

Blocks are put together in a fixed order by the update of Chan, Golub and LeVeque
("Updating formulae and a pairwise algorithm for computing sample variances", 1979), so that no
mean far from zero cancels. Results are (x - h) k + b, h the mean as the dtype holds it; what is
left of the mean goes into b.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from kernels.arrays import Array
from kernels.batch_norm import by_planes, by_rows
from kernels.batch_norm.operator import BatchNormAlgorithm, Call, Gradients
from kernels.batch_norm.statistics import bias_of, planes, update_running, weight_of


class Direct(BatchNormAlgorithm):
    """batch_norm on one thread, or over `prange`."""

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`; update the running statistics in training."""
        kernels, lay = _way(call)
        x, y = lay(call.input), lay(output)
        how = (self.threaded, threads, kernels.tasks(x.shape))
        rest = (weight_of(call), bias_of(call), call.eps, y)
        if call.training:
            mean_and_var = np.empty((2, call.input.shape[1]))
            kernels.training(*how, x, *rest, mean_and_var)
            update_running(call, *mean_and_var)
        else:
            kernels.inference(*how, x, call.running_mean, call.running_var, *rest)

    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> None:
        """Fill the gradients."""
        kernels, lay = _way(call)
        gy, x = lay(grad_output), lay(call.input)
        gx = x[:0] if grads.input is None else lay(grads.input)
        how = (self.threaded, threads, kernels.tasks(x.shape))
        sums = np.empty((2, call.input.shape[1]))
        rest = (weight_of(call), call.eps, gx, sums)
        if call.training:
            kernels.training_gradients(*how, gy, x, *rest)
        else:
            kernels.inference_gradients(*how, gy, x, call.running_mean, call.running_var, *rest)
        for grad, values in zip((grads.weight, grads.bias), sums, strict=True):
            if grad is not None:
                with np.errstate(over="ignore"):
                    grad[...] = values


def _way(call: Call) -> tuple[ModuleType, Callable[[Array], Array]]:
    """The kernels, and how they want arrays to lie; a view of those that have room for results."""
    channels = call.input.shape[1]
    if call.channels_last or call.input.size == call.input.shape[0] * channels:
        return by_rows, _in_rows
    return by_planes, _in_planes


def _in_rows(array: Array) -> Array:
    last = np.moveaxis(array, 1, -1)
    return np.ascontiguousarray(last).reshape(-1, array.shape[1])


def _in_planes(array: Array) -> Array:
    return planes(np.ascontiguousarray(array))
