"""Vectorised NumPy: whole-array exponentials, and sums over the classes."""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.cross_entropy.operator import Call, CrossEntropyAlgorithm
from kernels.cross_entropy.positions import loss_grads, reduce


class Reductions(CrossEntropyAlgorithm):
    """One pass over the array for each step of the definition."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`: without dimensions, or [N, d1, ...] for reduction "none"."""
        n, classes, inner = call.shape
        if not call.input.size:
            reduce(call, np.zeros(n * inner, output.dtype), output)
            return
        with np.errstate(all="ignore"):
            logarithms = _log_softmax(call)
            if call.weight is not None:
                logarithms *= call.weight[:, None]
            kind = logarithms.dtype.type
            own, spread = kind(1 - call.label_smoothing), kind(call.label_smoothing / classes)
            if call.labelled:
                labels = call.target.reshape(n, 1, inner)
                ignored = labels == call.ignore_index
                chosen = np.where(ignored, 0, labels)
                losses = -own * np.take_along_axis(logarithms, chosen, 1)
                if spread:
                    losses -= spread * logarithms.sum(1, keepdims=True)
                losses[ignored] = 0
            else:
                logarithms *= call.target.reshape(call.shape) * own + spread
                losses = -logarithms.sum(1)
        reduce(call, losses, output)

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input`, shaped as the input."""
        n, classes, inner = call.shape
        grads = np.broadcast_to(loss_grads(call, grad_output), n * inner).reshape(n, 1, inner)
        result = grad_input.reshape(call.shape)
        kind = result.dtype.type
        own, spread = kind(1 - call.label_smoothing), kind(call.label_smoothing / classes)
        if call.labelled:
            labels = call.target.reshape(n, 1, inner)
            ignored = labels == call.ignore_index
            grads = np.where(ignored, 0, grads).astype(kind)
            shares = np.full(result.shape, spread)
            chosen = np.where(ignored, 0, labels)
            np.put_along_axis(shares, chosen, own + spread, 1)
        else:
            shares = call.target.reshape(call.shape) * own + spread
        if call.weight is not None:
            shares *= call.weight[:, None]
        with np.errstate(all="ignore"):
            np.exp(_log_softmax(call), out=result)
            result *= shares.sum(1, keepdims=True)
            result -= shares
            result *= grads


def _log_softmax(call: Call) -> Array:
    """[N, C, d]."""
    given = call.input.reshape(call.shape)
    result: Array = given - given.max(1, keepdims=True)
    result -= np.log(np.exp(result).sum(1, keepdims=True))
    return result
