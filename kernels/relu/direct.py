"""One pass over memory, in tasks of a fixed size; as fast as the memory gives.

Each task works on slices, counted from zero: with an index that starts elsewhere LLVM has to mind
Python's negative indices and gathers single elements.
"""

from __future__ import annotations

from numba import prange

from kernels.arrays import Array
from kernels.compiled import Kernel, tasks_for
from kernels.relu.operator import ReluAlgorithm

GRAIN = 1 << 14
"""Elements of a task; fewer than eight such are done before a second thread would have started."""


class Direct(ReluAlgorithm):
    """relu on one thread, or over `prange`."""

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded

    def forward(self, input: Array, output: Array, threads: int | None) -> None:  # noqa: A002
        """Fill `output`."""
        x = input.ravel()
        tasks = tasks_for(x.size, GRAIN)
        _forward(self.threaded, threads, tasks, x, x.dtype.type(0), output.reshape(-1))

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002
        grad_input: Array,
        threads: int | None,
    ) -> None:
        """Fill `grad_input`."""
        x, gy = input.ravel(), grad_output.ravel()
        tasks = tasks_for(x.size, GRAIN)
        _backward(self.threaded, threads, tasks, gy, x, x.dtype.type(0), grad_input.reshape(-1))


def _forward_source(tasks, x, zero, y):
    for task in prange(tasks):
        begin, end = x.size * task // tasks, x.size * (task + 1) // tasks
        given, result = x[begin:end], y[begin:end]
        for i in range(given.size):
            result[i] = zero if given[i] < zero else given[i]  # noqa: FURB136 - NaN stays


def _backward_source(tasks, gy, x, zero, gx):
    for task in prange(tasks):
        begin, end = x.size * task // tasks, x.size * (task + 1) // tasks
        grad, given, result = gy[begin:end], x[begin:end], gx[begin:end]
        for i in range(given.size):
            result[i] = zero if given[i] <= zero else grad[i]


_forward = Kernel(_forward_source)
_backward = Kernel(_backward_source)
