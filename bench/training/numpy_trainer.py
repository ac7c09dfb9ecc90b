"""The CIFAR CNN on the operators by hand, in one process: NumPy's, or the fast ones on threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from bench.training.trainer import Arrays, Batch, State, Task, copied, finite
from models import InputError
from models.numpy_cnn import WEIGHTS, Buffer, NumpyCnn, over
from models.optimizers import OPTIMIZERS
from pytest_speedup.machine import pool_threads


class NumpyTrainer(AbstractContextManager["NumpyTrainer"]):
    """Trains on whole batches; `threads` for "numba_threads", None for all; float32 or float64.

    Raises InputError for another network than the CIFAR CNN.
    """

    def __init__(
        self,
        task: Task,
        implementation: str,
        threads: int | None = None,
        *,
        dtype: type[np.floating] = np.float32,
    ) -> None:
        if task.network != "cifar_cnn":
            raise InputError(f"on NumPy there is cifar_cnn alone, got {task.network}")
        settings = self._settings = task.settings
        self._network = NumpyCnn(implementation, threads, dtype)
        only_sgd = {"momentum": settings.momentum} if settings.optimizer == "sgd" else {}
        self._optimizer = OPTIMIZERS[settings.optimizer](
            self._network.weights.flat, settings.lr, implementation, threads, **only_sgd
        )

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""

    def load(self, state: State) -> None:
        """Copy weights and buffers."""
        _fill(self._network.weights, state.weights)
        for kind, flat in self._optimizer.buffers.items():
            flat[:] = 0
            if state.buffers:
                named = over(flat)
                _fill(named, {name: state.buffers[f"{kind}/{name}"] for name in named.named})
        self._optimizer.steps = state.steps

    def train(self, batches: Sequence[Batch]) -> list[float]:
        """A step for each batch."""
        return [self._step(batch) for batch in batches]

    def _step(self, batch: Batch) -> float:
        gradients = self._gradients(batch)
        loss = float(gradients[..., WEIGHTS].sum())
        finite(loss, self._optimizer.steps + 1, self._settings)
        self._optimizer.step(gradients)
        return loss

    def _gradients(self, batch: Batch) -> NDArray:
        """Of the mean loss over the whole batch, and that loss behind them; rows are added up."""
        self._network.step(*batch)
        return self._network.gradients.flat

    def weights(self) -> Arrays:
        """Views."""
        return self._network.weights.named

    def state(self) -> State:
        """Copies."""
        buffers = {
            f"{kind}/{name}": array
            for kind, flat in self._optimizer.buffers.items()
            for name, array in over(flat).named.items()
        }
        return State(copied(self.weights()), copied(buffers), self._optimizer.steps)

    def threads(self) -> Mapping[str, int]:
        """Of each pool, as this process reads it."""
        return pool_threads()


def _fill(into: Buffer, arrays: Arrays) -> None:
    for name, array in into.named.items():
        array[...] = arrays[name]
