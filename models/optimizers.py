"""SGD with momentum and Adam over flat buffers, each step as `torch.optim` makes it.

    numpy           NumPy's own passes over memory, one for each operation
    numba           one pass for all of them, on one thread
    numba_threads   the same over `prange`

Formulas: torch's documentation of `torch.optim.SGD` (dampening 0, no Nesterov, no weight decay) and
`torch.optim.Adam` (Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015,
algorithm 1), with torch's defaults for what the constructors do not take.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numba import njit, prange

from kernels.arrays import Array
from kernels.compiled import Kernel, tasks_for

GRAIN = 1 << 14
"""Weights of a task."""
IMPLEMENTATIONS = ("numpy", "numba", "numba_threads")


class Optimizer(ABC):
    """Updates weights in place; its `buffers` and `steps` are all that it remembers."""

    def __init__(
        self, weights: Array, lr: float, implementation: str, threads: int | None = None
    ) -> None:
        if implementation not in IMPLEMENTATIONS:
            allowed = ", ".join(IMPLEMENTATIONS)
            raise ValueError(f"no optimizer in {implementation!r}; allowed: {allowed}")
        self.lr = lr
        self.steps = 0
        """How many have been made."""
        self._weights = weights
        self._compiled = implementation != "numpy"
        self._threaded = implementation == "numba_threads"
        self._threads = threads
        self.buffers: Mapping[str, Array] = {name: np.zeros_like(weights) for name in self.NAMES}

    NAMES: tuple[str, ...]
    """torch's names of the buffers."""

    @abstractmethod
    def step(self, gradients: Array) -> None:
        """Change the weights.

        gradients: a number for each weight, [n], or several that are added up in their order,
        [m, n]; n may be more than there are weights, and the rest means nothing.
        """

    def _sum(self, gradients: Array) -> Array:
        rows = gradients.reshape(-1, gradients.shape[-1])[:, : self._weights.size]
        return rows[0] if len(rows) == 1 else rows.sum(0)

    def _run(self, kernel: Kernel, gradients: Array, *arguments: object) -> None:
        rows = gradients.reshape(-1, gradients.shape[-1])
        tasks = tasks_for(self._weights.size, GRAIN)
        kernel(self._threaded, self._threads, tasks, self._weights, rows, *arguments)

    def _number(self, value: float) -> np.floating:
        return self._weights.dtype.type(value)


class Sgd(Optimizer):
    """v = momentum v + g; w = w - lr v."""

    NAMES = ("momentum_buffer",)

    def __init__(
        self,
        weights: Array,
        lr: float,
        implementation: str,
        threads: int | None = None,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(weights, lr, implementation, threads)
        self.momentum = momentum

    def step(self, gradients: Array) -> None:
        """v, then w."""
        self.steps += 1
        velocity = self.buffers["momentum_buffer"]
        lr, momentum = self._number(self.lr), self._number(self.momentum)
        if self._compiled:
            self._run(_sgd, gradients, velocity, lr, momentum)
            return
        velocity *= momentum
        velocity += self._sum(gradients)
        self._weights -= lr * velocity


class Adam(Optimizer):
    """Moving means of gradient and squared gradient, freed of their start at zero."""

    NAMES = ("exp_avg", "exp_avg_sq")
    BETAS = (0.9, 0.999)
    EPS = 1e-8

    def step(self, gradients: Array) -> None:
        """The means, then the weights."""
        self.steps += 1
        mean, square = self.buffers["exp_avg"], self.buffers["exp_avg_sq"]
        beta1, beta2 = self.BETAS
        size = self._number(self.lr / (1 - beta1**self.steps))
        root = self._number(math.sqrt(1 - beta2**self.steps))
        rest1, rest2 = self._number(1 - beta1), self._number(1 - beta2)
        beta, eps = self._number(beta2), self._number(self.EPS)
        if self._compiled:
            self._run(_adam, gradients, mean, square, rest1, beta, rest2, size, root, eps)
            return
        gradients = self._sum(gradients)
        mean += (gradients - mean) * rest1
        square *= beta
        square += gradients * gradients * rest2
        self._weights -= size * mean / (np.sqrt(square) / root + eps)


@njit(error_model="numpy")
def _summed(g, begin, end):
    """Columns of the only row, or the sums of all rows' in an array that stays in the cache."""
    if len(g) == 1:
        return g[0, begin:end]
    sums = g[0, begin:end] + g[1, begin:end]
    for row in range(2, len(g)):
        sums += g[row, begin:end]
    return sums


def _sgd_source(tasks, w, g, v, lr, momentum):
    for task in prange(tasks):
        begin, end = w.size * task // tasks, w.size * (task + 1) // tasks
        weights, gradients, velocity = w[begin:end], _summed(g, begin, end), v[begin:end]
        for i in range(weights.size):
            velocity[i] = momentum * velocity[i] + gradients[i]
            weights[i] -= lr * velocity[i]


def _adam_source(tasks, w, g, m, s, rest1, beta2, rest2, size, root, eps):
    for task in prange(tasks):
        begin, end = w.size * task // tasks, w.size * (task + 1) // tasks
        gradients = _summed(g, begin, end)
        weights, mean, square = w[begin:end], m[begin:end], s[begin:end]
        for i in range(weights.size):
            mean[i] += (gradients[i] - mean[i]) * rest1
            square[i] = beta2 * square[i] + rest2 * gradients[i] * gradients[i]
            weights[i] -= size * mean[i] / (math.sqrt(square[i]) / root + eps)


_sgd = Kernel(_sgd_source)
_adam = Kernel(_adam_source)
OPTIMIZERS: Mapping[str, type[Optimizer]] = {"sgd": Sgd, "adam": Adam}
