"""softmax and log_softmax in blocks that stay in the first cache, with exponentials in vectors.

Along rows, columns or turned rows, as `kernels.blocks` says. The two operators differ in the last
pass over a block alone.
"""

from __future__ import annotations

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
from kernels.exponential import any_order, exp, exp_to_add, log, widest_vectors
from kernels.softmax.operator import Call, SoftmaxAlgorithm


class Direct(SoftmaxAlgorithm):
    """softmax, or its logarithm, on one thread or over `prange`."""

    def __init__(self, *, log: bool, threaded: bool) -> None:
        self._log = log
        self.threaded = threaded

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output`, shaped as the input."""
        self._run(_forward, threads, call, call.input, call.input, output)

    def backward(
        self, call: Call, grad_output: Array, output: Array, grad_input: Array, threads: int | None
    ) -> None:
        """Fill `grad_input` from the gradient of the output and the output itself."""
        self._run(_backward, threads, call, grad_output, output, grad_input)

    def _run(
        self, kernel: Kernel, threads: int | None, call: Call, a: Array, b: Array, result: Array
    ) -> None:
        outer, classes, inner = call.shape
        width = block_width(outer, classes, inner)
        tasks = blocks(outer, inner, width)
        threaded = self.threaded and result.size >= GRAIN
        flat = (np.ascontiguousarray(array).reshape(-1) for array in (a, b, result))
        kernel(threaded, threads, tasks, *flat, classes, inner, width, self._log)


def _forward_source(tasks, x, _, y, classes, inner, width, logarithm):
    for task in prange(tasks):
        _forward_block(task, x, y, classes, inner, width, logarithm)


def _backward_source(tasks, gy, y, gx, classes, inner, width, logarithm):
    for task in prange(tasks):
        _backward_block(task, gy, y, gx, classes, inner, width, logarithm)


_forward = Kernel(_forward_source)
_backward = Kernel(_backward_source)


@njit(cache=True, nogil=True)
def _forward_block(task, x, y, classes, inner, width, logarithm):
    if inner > 1:
        begin, count = column_block(task, classes, inner, width)
        _forward_columns(x[begin:], y[begin:], classes, inner, count, logarithm)
        return
    begin, end = task * width * classes, min((task + 1) * width * classes, x.size)
    rows, results = x[begin:end], y[begin:end]
    count = rows.size // classes
    if classes >= SHORT:
        _forward_rows(rows, results, classes, logarithm)
        return
    turned, result = np.empty_like(rows), np.empty_like(rows)
    turn(rows, turned, count, classes)
    _forward_columns(turned, result, classes, count, count, logarithm)
    turn(result, results, classes, count)


@njit(cache=True, nogil=True)
def _backward_block(task, gy, y, gx, classes, inner, width, logarithm):
    if inner > 1:
        begin, count = column_block(task, classes, inner, width)
        _backward_columns(gy[begin:], y[begin:], gx[begin:], classes, inner, count, logarithm)
        return
    begin, end = task * width * classes, min((task + 1) * width * classes, y.size)
    rows, grads, results = y[begin:end], gy[begin:end], gx[begin:end]
    count = rows.size // classes
    if classes >= SHORT:
        _backward_rows(grads, rows, results, classes, logarithm)
        return
    turned, turned_grads, result = np.empty_like(rows), np.empty_like(rows), np.empty_like(rows)
    turn(rows, turned, count, classes)
    turn(grads, turned_grads, count, classes)
    _backward_columns(turned_grads, turned, result, classes, count, count, logarithm)
    turn(result, results, classes, count)


@njit(cache=True, nogil=True)
def _forward_rows(x, y, classes, logarithm):
    widest_vectors()
    for first in range(0, x.size, classes):
        row, result = x[first : first + classes], y[first : first + classes]
        top, total = row_top(row), x.dtype.type(0)
        if logarithm:
            for c in range(classes):
                total = any_order(total, exp_to_add(row[c] - top))
            shift = log(total)
            for c in range(classes):
                result[c] = row[c] - top - shift
        else:
            for c in range(classes):
                result[c] = exp(row[c] - top)
                total = any_order(total, result[c])
            share = x.dtype.type(1) / total
            for c in range(classes):
                result[c] *= share


@njit(cache=True, nogil=True)
def _backward_rows(gy, y, gx, classes, logarithm):
    widest_vectors()
    for first in range(0, y.size, classes):
        last = first + classes
        grad, row, result = gy[first:last], y[first:last], gx[first:last]
        total = y.dtype.type(0)
        if logarithm:
            for c in range(classes):
                total = any_order(total, grad[c])
            for c in range(classes):
                result[c] = grad[c] - exp(row[c]) * total
        else:
            for c in range(classes):
                total = any_order(total, grad[c] * row[c])
            for c in range(classes):
                result[c] = (grad[c] - total) * row[c]


@njit(cache=True, nogil=True)
def _forward_columns(x, y, classes, step, count, logarithm):
    widest_vectors()
    tops, totals = np.empty(count, x.dtype), np.zeros(count, x.dtype)
    column_tops(x, classes, step, tops)
    for c in range(classes):
        given, result = x[c * step : c * step + count], y[c * step : c * step + count]
        if logarithm:
            for i in range(count):
                result[i] = given[i] - tops[i]
                totals[i] += exp_to_add(result[i])
        else:
            for i in range(count):
                result[i] = exp(given[i] - tops[i])
                totals[i] += result[i]
    if logarithm:
        for i in range(count):
            totals[i] = log(totals[i])
    else:
        for i in range(count):
            totals[i] = x.dtype.type(1) / totals[i]
    for c in range(classes):
        result = y[c * step : c * step + count]
        if logarithm:
            for i in range(count):
                result[i] -= totals[i]
        else:
            for i in range(count):
                result[i] *= totals[i]


@njit(cache=True, nogil=True)
def _backward_columns(gy, y, gx, classes, step, count, logarithm):
    widest_vectors()
    totals = np.zeros(count, y.dtype)
    for c in range(classes):
        grad, given = gy[c * step : c * step + count], y[c * step : c * step + count]
        if logarithm:
            for i in range(count):
                totals[i] += grad[i]
        else:
            for i in range(count):
                totals[i] += grad[i] * given[i]
    for c in range(classes):
        grad, given = gy[c * step : c * step + count], y[c * step : c * step + count]
        result = gx[c * step : c * step + count]
        if logarithm:
            for i in range(count):
                result[i] = grad[i] - exp(given[i]) * totals[i]
        else:
            for i in range(count):
                result[i] = (grad[i] - totals[i]) * given[i]
