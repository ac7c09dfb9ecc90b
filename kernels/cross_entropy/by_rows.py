"""A block of positions whose classes are neighbours: row after row, in vectors along it.

`terms`: the call's; `x`, `labels` and the probabilities `q` are the block's own, flat.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.blocks import row_top
from kernels.exponential import any_order, exp, exp_to_add, log, rank, unrank, widest_vectors

RUN = 64
"""Numbers that LLVM's loops take at a time; what is left over of a row is filled up to as many."""


@njit(cache=True, nogil=True)
def row_losses(x, labels, q, terms, losses):
    """Fill `losses`, one a position."""
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
def row_gradients(x, labels, q, terms, grads, gx):
    """Fill `gx`, which lies as x does, from the gradients of the losses, or the one of all."""
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
