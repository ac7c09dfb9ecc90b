"""A block of positions that are neighbours: class after class, in vectors across the positions.

`terms`: the call's; `x`, `labels` and the probabilities `q` are the block's own, flat, with `step`
numbers from one class to the next.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.blocks import column_tops
from kernels.exponential import exp, exp_to_add, log, widest_vectors


@njit(cache=True, nogil=True)
def column_losses(x, labels, q, terms, losses, step):
    """Fill `losses`, one a position."""
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
def column_gradients(x, labels, q, terms, grads, gx, step, count):
    """Fill `gx`, which lies as x does, from the gradients of `count` losses, or the one of all."""
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
