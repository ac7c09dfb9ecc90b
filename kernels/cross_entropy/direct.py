"""cross_entropy in blocks that stay in the first cache; log_softmax is nowhere written.

Along rows, columns or turned rows, as `kernels.blocks` says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from kernels.arrays import Array
from kernels.blocks import (
    GRAIN,
    SHORT,
    block_width,
    blocks,
    column_block,
    column_tops,
    row_top,
    turn,
)
from kernels.compiled import Kernel
from kernels.cross_entropy.operator import Call, CrossEntropyAlgorithm
from kernels.cross_entropy.positions import loss_grads, terms
from kernels.exponential import any_order, exp, exp_to_add, log, rank, unrank, widest_vectors

RUN = 64
"""Numbers that LLVM's loops take at a time; what is left over of a row is filled up to as many."""
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
        _column_losses(x[begin:], labels, q[begin:], terms, result, inner)
        return
    first, last = task * width, min((task + 1) * width, n)
    begin, end = first * classes, last * classes
    labels, result = terms.labels[first:last], losses[first:last]
    if classes >= SHORT:
        _row_losses(x[begin:end], labels, q[begin:end], terms, result)
        return
    turned, turned_q = np.empty(end - begin, x.dtype), np.empty(q[begin:end].size, x.dtype)
    turn(x[begin:end], turned, last - first, classes)
    if turned_q.size:
        turn(q[begin:end], turned_q, last - first, classes)
    _column_losses(turned, labels, turned_q, terms, result, last - first)


@njit(cache=True, nogil=True)
def _gradients_block(task, terms, grads, gx, n, inner, width):
    x, q, classes = terms.input, terms.probabilities, terms.weight.size
    if inner > 1:
        begin, count = column_block(task, classes, inner, width)
        first = begin // (classes * inner) * inner + begin % (classes * inner)
        labels = terms.labels[first : first + count]
        own = grads if grads.size == 1 else grads[first : first + count]
        _column_gradients(x[begin:], labels, q[begin:], terms, own, gx[begin:], inner, count)
        return
    first, last = task * width, min((task + 1) * width, n)
    begin, end = first * classes, last * classes
    labels = terms.labels[first:last]
    own = grads if grads.size == 1 else grads[first:last]
    if classes >= SHORT:
        _row_gradients(x[begin:end], labels, q[begin:end], terms, own, gx[begin:end])
        return
    turned, turned_q = np.empty(end - begin, x.dtype), np.empty(q[begin:end].size, x.dtype)
    result = np.empty_like(turned)
    turn(x[begin:end], turned, last - first, classes)
    if turned_q.size:
        turn(q[begin:end], turned_q, last - first, classes)
    _column_gradients(turned, labels, turned_q, terms, own, result, last - first, last - first)
    turn(result, gx[begin:end], classes, last - first)


@njit(cache=True, nogil=True)
def _row_losses(x, labels, q, terms, losses):
    widest_vectors()
    weight, own, spread, classes = terms.weight, terms.own, terms.spread, terms.weight.size
    rest, whole = np.full(RUN, x.dtype.type(-np.inf)), classes // RUN * RUN
    for r in range(losses.size):
        losses[r] = 0
        if labels.size and labels[r] == terms.ignore_index:
            continue
        begin, loss = r * classes, x.dtype.type(0)
        row = x[begin : begin + whole]
        for c in range(classes - whole):
            rest[c] = x[begin + whole + c]
        top = unrank(max(rank(row_top(row)), rank(row_top(rest))))
        shift = log(_total(row, top) + _total(rest, top))
        if q.size:
            for c in range(classes):
                part = (q[begin + c] * own + spread) * weight[c]
                loss = any_order(loss, part * (x[begin + c] - top - shift))
        else:
            if spread > 0:
                for c in range(classes):
                    loss = any_order(loss, spread * weight[c] * (x[begin + c] - top - shift))
            loss += own * (weight[labels[r]] * (x[begin + labels[r]] - top - shift))
        losses[r] = -loss


@njit(cache=True, nogil=True)
def _total(x, top):
    """The sum of exp(x - top), where some x is top or others are added to it."""
    widest_vectors()
    total = x.dtype.type(0)
    for c in range(x.size):
        total = any_order(total, exp_to_add(x[c] - top))
    return total


@njit(cache=True, nogil=True)
def _row_gradients(x, labels, q, terms, grads, gx):
    widest_vectors()
    weight, own, spread, classes = terms.weight, terms.own, terms.spread, terms.weight.size
    for r in range(x.size // classes):
        row, result = x[r * classes : (r + 1) * classes], gx[r * classes : (r + 1) * classes]
        grad, label = grads[0] if grads.size == 1 else grads[r], 0
        if labels.size:
            label = labels[r]
            if label == terms.ignore_index:
                grad, label = x.dtype.type(0), 0
        top, total, shares = row_top(row), x.dtype.type(0), x.dtype.type(0)
        for c in range(classes):
            result[c] = exp(row[c] - top)
            total = any_order(total, result[c])
        if q.size:
            share = q[r * classes : (r + 1) * classes]
            for c in range(classes):
                shares = any_order(shares, (share[c] * own + spread) * weight[c])
            scale = grad * shares / total
            for c in range(classes):
                part = (share[c] * own + spread) * weight[c]
                result[c] = result[c] * scale - grad * part
            continue
        if spread > 0:
            for c in range(classes):
                shares = any_order(shares, spread * weight[c])
        shares += own * weight[label]
        scale = grad * shares / total
        for c in range(classes):
            result[c] *= scale
        if spread > 0:
            for c in range(classes):
                result[c] -= grad * (spread * weight[c])
        result[label] -= grad * (own * weight[label])


@njit(cache=True, nogil=True)
def _column_losses(x, labels, q, terms, losses, step):
    widest_vectors()
    weight, own, spread, count = terms.weight, terms.own, terms.spread, losses.size
    tops, shifts = np.empty(count, x.dtype), np.zeros(count, x.dtype)
    column_tops(x, weight.size, step, tops)
    for c in range(weight.size):
        given = x[c * step : c * step + count]
        for i in range(count):
            shifts[i] += exp_to_add(given[i] - tops[i])
    for i in range(count):
        shifts[i] = log(shifts[i])
        losses[i] = 0
    if q.size or spread > 0:
        for c in range(weight.size):
            given, factor = x[c * step : c * step + count], weight[c]
            if q.size:
                share = q[c * step : c * step + count]
                for i in range(count):
                    part = (share[i] * own + spread) * factor
                    losses[i] -= part * (given[i] - tops[i] - shifts[i])
            else:
                for i in range(count):
                    losses[i] -= spread * factor * (given[i] - tops[i] - shifts[i])
    for i in range(labels.size):
        if labels[i] == terms.ignore_index:
            losses[i] = 0
        else:
            logarithm = x[labels[i] * step + i] - tops[i] - shifts[i]
            losses[i] -= own * (weight[labels[i]] * logarithm)


@njit(cache=True, nogil=True)
def _column_gradients(x, labels, q, terms, grads, gx, step, count):
    widest_vectors()
    weight, own, spread = terms.weight, terms.own, terms.spread
    tops, totals = np.empty(count, x.dtype), np.zeros(count, x.dtype)
    shares, scales = np.zeros(count, x.dtype), np.empty(count, x.dtype)
    column_tops(x, weight.size, step, tops)
    for c in range(weight.size):
        given, result, factor = (
            x[c * step : c * step + count],
            gx[c * step : c * step + count],
            weight[c],
        )
        for i in range(count):
            result[i] = exp(given[i] - tops[i])
            totals[i] += result[i]
        if q.size:
            share = q[c * step : c * step + count]
            for i in range(count):
                shares[i] += (share[i] * own + spread) * factor
        elif spread > 0:
            for i in range(count):
                shares[i] += spread * factor
    for i in range(count):
        grad = grads[0] if grads.size == 1 else grads[i]
        if labels.size:
            if labels[i] == terms.ignore_index:
                grad = x.dtype.type(0)
            else:
                shares[i] += own * weight[labels[i]]
        scales[i] = grad
        totals[i] = grad * shares[i] / totals[i]
    for c in range(weight.size):
        result, factor = gx[c * step : c * step + count], weight[c]
        if q.size:
            share = q[c * step : c * step + count]
            for i in range(count):
                part = (share[i] * own + spread) * factor
                result[i] = result[i] * totals[i] - scales[i] * part
        elif spread > 0:
            for i in range(count):
                result[i] = result[i] * totals[i] - scales[i] * (spread * factor)
        else:
            for i in range(count):
                result[i] *= totals[i]
    for i in range(labels.size):
        if labels[i] != terms.ignore_index:
            gx[labels[i] * step + i] -= scales[i] * (own * weight[labels[i]])
