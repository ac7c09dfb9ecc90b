"""A pass for the statistics, and one for what needs them.

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
from kernels.batch_norm.operator import BatchNormAlgorithm, Call, Gradients, Saved
from kernels.batch_norm.statistics import bias_of, keep, mean_and_invstd, planes, weight_of


class Direct(BatchNormAlgorithm):
    """batch_norm on one thread, or over `prange`."""

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded

    def forward(self, call: Call, output: Array, saved: Saved | None, threads: int | None) -> None:
        """Fill `output` and `saved`; update the running statistics in training."""
        kernels, lay = _way(call)
        x, y = lay(call.input), lay(output)
        how = (self.threaded, threads, kernels.tasks(x.shape))
        rest = (weight_of(call), bias_of(call), call.eps, y)
        if call.training:
            stats = np.empty((2, call.input.shape[1]))
            kernels.training(*how, x, *rest, stats)
            keep(call, stats, saved)
        else:
            kernels.inference(*how, x, call.running_mean, call.running_var, *rest)

    def backward(
        self,
        call: Call,
        saved: Saved | None,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,
    ) -> None:
        """Fill the gradients."""
        kernels, lay = _way(call)
        gy, x = lay(grad_output), lay(call.input)
        nothing = np.empty([0] * x.ndim, x.dtype)
        gx = nothing if grads.input is None else lay(grads.input)
        how = (self.threaded, threads, kernels.tasks(x.shape))
        weight = weight_of(call)
        stats, sums = np.empty((2, 2, call.input.shape[1]))
        if call.training and saved is None:
            kernels.training(*how, x, weight, weight, call.eps, nothing, stats)
        mean, r = mean_and_invstd(call, saved, stats)
        kernels.gradients(*how, gy, x, mean, r, weight, call.training, gx, sums)
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
    order = (0, 2, 3, 1) if array.ndim == 4 else (0, *range(2, array.ndim), 1)
    last = array.transpose(order)
    return np.ascontiguousarray(last).reshape(-1, array.shape[1])


def _in_planes(array: Array) -> Array:
    return planes(np.ascontiguousarray(array))
