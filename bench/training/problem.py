"""What every timed arm does, and the weights that it has to arrive at.

A call is `STEPS` steps on batches that lie in memory, from the same initial weights. The reference
is the dullest correct code: PyTorch in one process on one thread, contiguous float32.

How far weights may be from it is measured, since no a-priori bound is of use through several steps,
and not by their largest difference: where a relu's input is 1e-7, another order of summation lets
another image's gradient through, and a single weight is off by hundreds of times what rounding
alone does to it. So each parameter's whole change is looked at, in the Euclidean norm:

    |w - w32| <= max(1e-3, 8 e) |w64 - start|,    e = max |w' - w64| / |w64 - start|

w32 is the reference, w64 the same steps in float64, and w' float32 runs that differ in the order of
summation alone: the reference, channels-last memory, each batch's images in two other orders. Such
runs were off by 3e-6, where a relu switched by 2e-4; one wrong label of 128 changes 1e-2, one wrong
image 4e-3, 0.1 % of momentum and rate 1e-3. Few steps, because errors grow with each: after 50 no
two orders of summation agree in two digits. In float64 they do to 15, after 50 steps too, and there
`tests/test_training_*.py` hold the strategies against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.training.networks import initial_weights
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Arrays, Batch, State, Task, Trainer
from models.datasets import Dataset

STEPS = 4
"""Of one call."""
LEAST = 1e-3
FACTOR = 8
ORDERS = 2
SEED = 0


@dataclass(frozen=True)
class Problem:
    """Batches to train on from a state, and the right weights behind them."""

    task: Task
    batches: tuple[Batch, ...]
    start: State
    reference: Arrays
    allowed: float
    """Of each parameter's change: the largest difference's share, in the Euclidean norm."""
    changes: Mapping[str, float]
    """The Euclidean norm of each array's change."""

    @property
    def images(self) -> int:
        """That one call trains on."""
        return sum(len(batch.labels) for batch in self.batches)

    def check(self, weights: Arrays) -> Mapping[str, float | str]:
        """Raise AssertionError, naming the array, where one is off; else tell the largest error."""
        assert weights.keys() == self.reference.keys(), (
            f"wanted weights of {', '.join(self.reference)}; got {', '.join(weights)}"
        )
        largest = 0.0
        for name, wanted in self.reference.items():
            actual = np.asarray(weights[name])
            assert actual.shape == wanted.shape, f"{name}: {actual.shape}, wanted {wanted.shape}"
            assert actual.dtype == wanted.dtype, f"{name}: {actual.dtype}, wanted {wanted.dtype}"
            off = distance(actual, wanted)
            assert off <= self.allowed * self.changes[name], (  # NaN is not below anything
                f"{name} is off by {off:.3g} after {len(self.batches)} steps, in the Euclidean "
                f"norm; allowed {self.allowed:.1e} of its change, {self.changes[name]:.3g}"
            )
            largest = max(largest, float(abs(actual - wanted).max(initial=0)))
        return {"max_abs_error": largest, "tolerance": f"L2 {self.allowed:.1e} of the change"}


def make_problem(
    task: Task, data: Dataset, steps: int = STEPS, batch_size: int | None = None
) -> Problem:
    """`steps` batches of the training images, and the reference after them.

    `batch_size`: of the whole batch, where it is not that of the settings.
    """
    if batch_size is not None:
        task = replace(task, settings=replace(task.settings, batch_size=batch_size))
    return problem_on(task, take_batches(data, task.settings.batch_size, steps))


def problem_on(task: Task, batches: Sequence[Batch]) -> Problem:
    """Those batches, and the reference after them."""
    start = State(initial_weights(task.network, task.classes))

    def trained(batches: Sequence[Batch], **kind: Any) -> Arrays:
        with TorchTrainer(task, threads=1, **kind) as trainer:
            trainer.load(start)
            trainer.train(batches)
            return trainer.state().weights

    exact = trained(batches, dtype=torch.float64)
    reference = trained(batches)
    others = [trained(reordered(batches, seed)) for seed in range(ORDERS)]
    others += [reference, trained(batches, channels_last=True)]
    changes = {name: distance(exact[name], start.weights[name]) for name in exact}
    errors = [
        distance(other[name], exact[name]) / change
        for other in others
        for name, change in changes.items()
        if change
    ]
    allowed = max(LEAST, FACTOR * max(errors))
    return Problem(task, tuple(batches), start, reference, allowed, changes)


def take_batches(data: Dataset, batch_size: int, steps: int) -> Sequence[Batch]:
    """Images drawn without repetition as long as they last, in a seeded order."""
    rng = np.random.default_rng(SEED)
    wanted = batch_size * steps
    rounds = -(-wanted // len(data.labels))
    order = np.concatenate([rng.permutation(len(data.labels)) for _ in range(rounds)])[:wanted]
    return [
        Batch(np.ascontiguousarray(data.images[rows]), data.labels[rows])
        for rows in np.split(order, steps)
    ]


def reordered(batches: Sequence[Batch], seed: int) -> list[Batch]:
    """The same batches, each with its images in another order."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(batch.labels)) for batch in batches]
    return [
        Batch(batch.images[order], batch.labels[order])
        for batch, order in zip(batches, orders, strict=True)
    ]


def distance(a: NDArray, b: NDArray) -> float:
    """|a - b| in the Euclidean norm."""
    return float(np.linalg.norm((a.astype(np.float64) - b).ravel()))


class Steps:
    """The call that is timed: all batches of a problem by one trainer -> weights."""

    def __init__(self, trainer: Trainer, problem: Problem) -> None:
        self._trainer = trainer
        self._problem = problem
        for told in ("threads", "device"):
            if hasattr(trainer, told):
                setattr(self, told, getattr(trainer, told))

    @property
    def facts(self) -> Mapping[str, float | int | str]:
        """What the trainer found out beside the time."""
        return getattr(self._trainer, "facts", {})

    def __call__(self) -> Arrays:
        """Weights after the last batch."""
        self._trainer.train(self._problem.batches)
        return self._trainer.weights()


def measure(
    speedup: Callable[..., Any], trainer: Trainer, problem: Problem, **options: Any
) -> None:
    """Time an arm that trains on the problem's batches; see `pytest_speedup.fixture`."""
    options = {"expected": problem.check} | options
    speedup(
        Steps(trainer, problem),
        setup=lambda: trainer.load(problem.start),
        work=problem.images,
        **options,
    )
