"""What every way of training is: it takes a state, trains on global batches, and gives it back.

    with Serial(task) as trainer:            # starts what has to be started
        trainer.load(state)
        losses = trainer.train(batches)      # this is timed; of an arm also `weights()` behind it
        state = trainer.state()

A batch is the same for every strategy; one that shares it out does so itself. So all of them do the
same arithmetic up to the order of sums, and can be held against each other weight by weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.training.settings import Settings

Arrays = Mapping[str, NDArray]


class Batch(NamedTuple):
    """Images float32 [n, channels, size, size], C-contiguous, and labels int64 [n]."""

    images: NDArray
    labels: NDArray


def share_of(batch: Batch, rank: int, ranks: int) -> Batch:
    """A rank's part of a batch: consecutive images, one more or less than another rank's."""
    images = len(batch.labels)
    mine = slice(images * rank // ranks, images * (rank + 1) // ranks)
    return Batch(batch.images[mine], batch.labels[mine])


@dataclass(frozen=True)
class State:
    """All that training goes on from."""

    weights: Arrays
    """The network's `state_dict()`, by torch's names."""
    buffers: Arrays = field(default_factory=dict)
    """The optimizer's, as "momentum_buffer/conv1.weight"; none before the first step."""
    steps: int = 0
    """That the optimizer has made."""


@dataclass(frozen=True)
class Task:
    """What is trained, and how: all that a strategy is told; it can be sent to other processes."""

    network: str
    """A name of `bench.training.networks.NETWORKS`."""
    settings: Settings
    classes: int = 10


class Trainer(AbstractContextManager["Trainer"], Protocol):
    """A strategy; see the module's docstring."""

    def load(self, state: State) -> None:
        """Go on from there; copies what it needs."""

    def train(self, batches: Sequence[Batch]) -> list[float]:
        """A step for each batch; returns its mean loss over the whole batch, before the step.

        Raises DivergedError where a loss is not finite.
        """

    def weights(self) -> Arrays:
        """As they are now, where possible without a copy; the next `train` may change them."""

    def state(self) -> State:
        """A copy of everything."""


class DivergedError(ArithmeticError):
    """The loss is infinite or NaN."""


def finite(loss: float, step: int, settings: Settings) -> float:
    """The loss of one step; raises DivergedError, naming the step and the remedy."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss is {loss} at step {step}: training diverged with {settings.optimizer}, "
            f"--lr {settings.lr:g}; try a smaller one, such as --lr {settings.lr / 10:g}"
        )
    return loss


def copied(arrays: Arrays) -> dict[str, NDArray]:
    """Arrays of their own, C-contiguous."""
    return {name: np.array(array, order="C") for name, array in arrays.items()}
