"""What the algorithms share: the input as planes, defaults, and the running statistics."""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arrays import Array
from kernels.batch_norm.operator import Call, Saved


def planes(array: Array) -> Array:
    """[N, C, ...] -> [N, C, L]; a view for every array that an operator made."""
    return array.reshape(array.shape[0], array.shape[1], -1)


def weight_of(call: Call) -> Array:
    """The weight [C], ones where there is none."""
    channels, dtype = call.input.shape[1], call.input.dtype
    return np.ones(channels, dtype) if call.weight is None else call.weight


def bias_of(call: Call) -> Array:
    """The bias [C], zeros where there is none."""
    channels, dtype = call.input.shape[1], call.input.dtype
    return np.zeros(channels, dtype) if call.bias is None else call.bias


def mean_and_invstd(call: Call, saved: Saved | None, stats: Array) -> tuple[Array, Array]:
    """By which backward normalises, [C] in float64; `stats`: the batch's mean and variance."""
    if saved is not None:
        return saved.mean.astype(np.float64), saved.invstd.astype(np.float64)
    if not call.training:
        assert call.running_mean is not None
        assert call.running_var is not None
        stats = np.array([call.running_mean, call.running_var], np.float64)
    with np.errstate(all="ignore"):
        return stats[0], 1 / np.sqrt(stats[1] + call.eps)


def keep(call: Call, stats: Array, saved: Saved | None) -> None:
    """Mix a batch's mean and biased variance, [2, C] in float64, into the running statistics.

    And fill `saved` where there is room.
    """
    count = call.input.size // stats.shape[1]
    mean, var = call.running_mean, call.running_var
    if mean is not None and var is not None:
        _mix(mean, stats[0], 1.0, call.momentum)
        _mix(var, stats[1], count / (count - 1), call.momentum)
    if saved is not None:
        with np.errstate(all="ignore"):
            saved.mean[...] = stats[0]
            saved.invstd[...] = 1 / np.sqrt(stats[1] + call.eps)


@njit(cache=True, nogil=True)
def _mix(running, batch, factor, momentum):
    for c in range(running.size):
        running[c] = (1 - momentum) * running[c] + momentum * (batch[c] * factor)
