"""cross_entropy in blocks that stay in the first cache; log_softmax is nowhere written.

Along rows (`by_rows`), columns or turned rows (`by_columns`), as `kernels.blocks` says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from kernels.arrays import Array
from kernels.blocks import GRAIN, SHORT, block_width, blocks, column_block, turn
from kernels.compiled import Kernel
from kernels.cross_entropy.by_columns import column_gradients, column_losses
from kernels.cross_entropy.by_rows import row_gradients, row_losses
from kernels.cross_entropy.operator import Call, CrossEntropyAlgorithm
from kernels.cross_entropy.positions import loss_grads, terms
from kernels.exponential import any_order

SUMMED = 1024
"""Losses that are added one after another, in several vectors."""


class Direct(CrossEntropyAlgorithm):
    """cross_entropy on one thread or over `prange`."""

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`: without dimensions, or [N, d1, ...] for reduction "none"."""
        n, classes, inner = call.shape
        given = terms(call)
        plain = call.reduction == "none"
        losses = output.reshape(-1) if plain else np.empty(n * inner, output.dtype)
        if call.input.size:
            self._run(_losses, threads, call, given, losses)
        else:
            losses.fill(0)
        if not plain:
            rows = n * inner if classes else 0
            labels, _, weight, ignored = given[1:5]
            mean = call.reduction == "mean"
            output[...] = _reduced(losses, labels, weight, ignored, rows, mean)

    def backward(
        self, call: Call, grad_output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input`, shaped as the input."""
        grads = loss_grads(call, grad_output)
        self._run(_gradients, threads, call, terms(call), grads, grad_input.reshape(-1))

    def _run(self, kernel: Kernel, threads: int | None, call: Call, *arrays: Any) -> None:
        n, classes, inner = call.shape
        width = block_width(n, classes, inner)
        threaded = self.threaded and call.input.size >= GRAIN
        kernel(threaded, threads, blocks(n, inner, width), *arrays, n, inner, width)


def _losses_source(tasks, terms, losses, n, inner, width):
    for task in prange(tasks):
        _losses_block(task, terms, losses, n, inner, width)


def _gradients_source(tasks, terms, grads, gx, n, inner, width):
    for task in prange(tasks):
        _gradients_block(task, terms, grads, gx, n, inner, width)


_losses = Kernel(_losses_source)
_gradients = Kernel(_gradients_source)


@njit(cache=True, nogil=True, error_model="numpy")
def _reduced(losses, labels, weight, ignore_index, rows, mean):
    """The sum, or for `mean` over the weight of all labels, or `rows` where there are none.

    Compiled, for NumPy's steps are slow where the logits have just gone through the cache.
    """
    total = _sum(losses)
    if not mean:
        return total
    if not labels.size:
        return total / losses.dtype.type(rows)
    weights = np.empty(labels.size, losses.dtype)
    for i in range(labels.size):
        weights[i] = 0 if labels[i] == ignore_index else weight[labels[i]]
    return total / _sum(weights)


@njit(cache=True, nogil=True)
def _sum(x):
    """In parts, so that no chain of additions is long."""
    total = x.dtype.type(0)
    for first in range(0, x.size, SUMMED):
        part = x.dtype.type(0)
        for i in range(first, min(first + SUMMED, x.size)):
            part = any_order(part, x[i])
        total += part
    return total


@njit(cache=True, nogil=True)
def _losses_block(task, terms, losses, n, inner, width):
    x, q, classes = terms.input, terms.probabilities, terms.weight.size
    if inner > 1:
        begin, count = column_block(task, classes, inner, width)
        first = begin // (classes * inner) * inner + begin % (classes * inner)
        labels, result = terms.labels[first : first + count], losses[first : first + count]
        column_losses(x[begin:], labels, q[begin:], terms, result, inner)
        return
    first, last = task * width, min((task + 1) * width, n)
    begin, end = first * classes, last * classes
    labels, result = terms.labels[first:last], losses[first:last]
    if classes >= SHORT:
        row_losses(x[begin:end], labels, q[begin:end], terms, result)
        return
    turned, turned_q = np.empty(end - begin, x.dtype), np.empty(q[begin:end].size, x.dtype)
    turn(x[begin:end], turned, last - first, classes)
    if turned_q.size:
        turn(q[begin:end], turned_q, last - first, classes)
    column_losses(turned, labels, turned_q, terms, result, last - first)


@njit(cache=True, nogil=True)
def _gradients_block(task, terms, grads, gx, n, inner, width):
    x, q, classes = terms.input, terms.probabilities, terms.weight.size
    if inner > 1:
        begin, count = column_block(task, classes, inner, width)
        first = begin // (classes * inner) * inner + begin % (classes * inner)
        labels = terms.labels[first : first + count]
        own = grads if grads.size == 1 else grads[first : first + count]
        column_gradients(x[begin:], labels, q[begin:], terms, own, gx[begin:], inner, count)
        return
    first, last = task * width, min((task + 1) * width, n)
    begin, end = first * classes, last * classes
    labels = terms.labels[first:last]
    own = grads if grads.size == 1 else grads[first:last]
    if classes >= SHORT:
        row_gradients(x[begin:end], labels, q[begin:end], terms, own, gx[begin:end])
        return
    turned, turned_q = np.empty(end - begin, x.dtype), np.empty(q[begin:end].size, x.dtype)
    result = np.empty_like(turned)
    turn(x[begin:end], turned, last - first, classes)
    if turned_q.size:
        turn(q[begin:end], turned_q, last - first, classes)
    column_gradients(turned, labels, turned_q, terms, own, result, last - first, last - first)
    turn(result, gx[begin:end], classes, last - first)
