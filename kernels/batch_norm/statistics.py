"""What the algorithms share: the input as planes, defaults, and the running statistics."""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.batch_norm.operator import Call


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


def update_running(call: Call, mean: Array, var: Array) -> None:
    """Mix the batch's mean and biased variance, [C] in float64, into the running statistics."""
    if call.running_mean is None or call.running_var is None:
        return
    count = call.input.size // mean.size
    with np.errstate(all="ignore"):
        unbiased = var * (count / (count - 1))
        for running, batch in ((call.running_mean, mean), (call.running_var, unbiased)):
            running[...] = (1 - call.momentum) * running.astype(np.float64) + call.momentum * batch
