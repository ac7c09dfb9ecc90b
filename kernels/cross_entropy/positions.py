"""What the algorithms share: a call as flat arrays, and what happens to the losses afterwards."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from kernels.arrays import Array
from kernels.cross_entropy.operator import Call


class Terms(NamedTuple):
    """loss = -sum over classes c of weight[c] share[c] log_softmax(input)[c], flat arrays.

    share[c] is `spread`, plus `own` where c is the label, or `own` times c's probability.
    """

    input: Array
    labels: Array
    """Empty where the target holds probabilities."""
    probabilities: Array
    """Empty where the target holds labels."""
    weight: Array
    ignore_index: int
    own: Any
    spread: Any


def terms(call: Call) -> Terms:
    """The call's."""
    kind = call.input.dtype
    classes = call.shape[1]
    weight = _ones(classes, kind) if call.weight is None else np.ascontiguousarray(call.weight)
    target = np.ascontiguousarray(call.target).reshape(-1)
    return Terms(
        input=np.ascontiguousarray(call.input).reshape(-1),
        labels=target if call.labelled else np.empty(0, np.int64),
        probabilities=np.empty(0, kind) if call.labelled else target,
        weight=weight,
        ignore_index=call.ignore_index,
        own=kind.type(1 - call.label_smoothing),
        spread=kind.type(call.label_smoothing / max(classes, 1)),
    )


@functools.lru_cache(maxsize=16)
def _ones(count: int, dtype: np.dtype[Any]) -> Array:
    """Kept, for nobody writes to a weight."""
    return np.ones(count, dtype)


def reduce(call: Call, losses: Array, output: Array) -> None:
    """Fill `output` from the losses, which are weighted, and zero where they are ignored.

    NumPy sums in pairs, and not across threads: the same bits whoever computed the losses.
    """
    if call.reduction == "none":
        output[...] = losses.reshape(output.shape)
        return
    with np.errstate(all="ignore"):
        total = np.add.reduce(losses, axis=None)
        if call.reduction == "mean":
            total /= _divisor(call)
    output[...] = total


def loss_grads(call: Call, grad_output: Array) -> Array:
    """The gradient of every position's loss, flat; of size 1 where all are the same."""
    if call.reduction == "none":
        return np.ascontiguousarray(grad_output).reshape(-1)
    if call.reduction == "sum":
        return grad_output.reshape(1)
    with np.errstate(all="ignore"):
        return grad_output.reshape(1) / _divisor(call)


def _divisor(call: Call) -> Any:
    """By what "mean" divides: the weight of all labels, or the number of positions."""
    kind = call.input.dtype.type
    if not call.labelled:
        n, classes, inner = call.shape
        return kind(n * inner if classes else 0)
    counted = call.target != call.ignore_index
    if call.weight is None:
        return kind(np.count_nonzero(counted))
    return call.weight[call.target[counted]].sum()
