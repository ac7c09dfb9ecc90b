"""The sequential baseline: the plain nested loops, compiled by Numba on one thread."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from kernels.arrays import Array
from kernels.cross_entropy.operator import Call, CrossEntropyAlgorithm
from kernels.cross_entropy.positions import loss_grads, reduce, terms


class Loops(CrossEntropyAlgorithm):
    """One position after another, as the definition reads."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`: without dimensions, or [N, d1, ...] for reduction "none"."""
        n, _, inner = call.shape
        losses = np.zeros(n * inner, output.dtype)
        if call.input.size:
            _losses(*terms(call), *call.shape, losses)
        reduce(call, losses, output)

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grad_input: Array,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `grad_input`, shaped as the input."""
        grads = loss_grads(call, grad_output)
        _gradients(*terms(call), *call.shape, grads, grad_input.reshape(-1))


@njit(cache=True, nogil=True)
def _losses(x, labels, probabilities, weight, ignore_index, own, spread, n, classes, inner, losses):
    for position in range(n * inner):
        if labels.size and labels[position] == ignore_index:
            continue
        first = position // inner * classes * inner + position % inner
        top, total = _top_and_total(x, first, classes, inner)
        shift = math.log(total)
        for c in range(classes):
            at = first + c * inner
            logarithm = weight[c] * (x[at] - top - shift)
            if probabilities.size:
                losses[position] -= (probabilities[at] * own + spread) * logarithm
            else:
                if labels[position] == c:
                    losses[position] -= own * logarithm
                if spread > 0:
                    losses[position] -= spread * logarithm


@njit(cache=True, nogil=True)
def _gradients(
    x, labels, probabilities, weight, ignore_index, own, spread, n, classes, inner, grads, gx
):
    for position in range(n * inner):
        grad = grads[position if grads.size > 1 else 0]
        if labels.size and labels[position] == ignore_index:
            grad = x.dtype.type(0)
        first = position // inner * classes * inner + position % inner
        top, total = _top_and_total(x, first, classes, inner)
        shares = x.dtype.type(0)
        for c in range(classes):
            at = first + c * inner
            share = spread
            if probabilities.size:
                share += probabilities[at] * own
            elif labels[position] == c:
                share += own
            gx[at] = -grad * share * weight[c]
            shares += share * weight[c]
        for c in range(classes):
            at = first + c * inner
            gx[at] += math.exp(x[at] - top) / total * shares * grad


@njit(cache=True, nogil=True)
def _top_and_total(x, first, classes, inner):
    """The greatest logit of a position, and the sum of all exponentials relative to it."""
    top = x[first]
    for c in range(1, classes):
        if x[first + c * inner] > top:
            top = x[first + c * inner]
    total = x.dtype.type(0)
    for c in range(classes):
        total += math.exp(x[first + c * inner] - top)
    return top, total
