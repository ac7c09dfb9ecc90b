"""Training a strategy to its last epoch: the same images in the same order for every strategy.

Epoch e takes the training images in the order of `np.random.default_rng([SEED, e])`, the last batch
as short as it comes, so that a run needs no more than its checkpoint to go on as if nothing had
been between. What is timed is `Trainer.train` on batches that lie in memory: laying them there, the
test images and the checkpoint are outside, and so is a warm-up of a step for each size of batch,
behind which the first weights are loaded again. Over ranks the slowest one's time counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from bench.training.checkpoint import path_of, read, save
from bench.training.networks import build, initial_weights
from bench.training.run import Epoch, Recipe, Run, differences, digest_of, recipe_of
from bench.training.settings import Settings
from bench.training.strategies import STRATEGIES
from bench.training.trainer import Arrays, Batch, DivergedError, State, Task, Trainer
from models import InputError
from models.datasets import Dataset

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

T = TypeVar("T")

SEED = 0
STEPS_AT_ONCE = 128
"""That lie in memory, for one call of `train`: CIFAR-10 is not copied as a whole."""
CHECK_STEPS = 20
"""Of a run that nobody asked for: enough to see that it learns."""
TEST_BATCH = 256


@dataclass(frozen=True)
class Plan:
    """Which strategy to train, on what, and where to keep it."""

    strategy: str
    task: Task
    folder: Path | None = None
    """For checkpoints; None for a check of `CHECK_STEPS` steps that leaves nothing."""
    resume: bool = False

    @property
    def most(self) -> int | None:
        """Steps of an epoch; None for all."""
        return CHECK_STEPS if self.folder is None else None


def train(
    plan: Plan,
    data: Dataset,
    comm: Intracomm | None = None,
    tell: Callable[[Run], None] | None = None,
) -> Run:
    """Train all epochs that are not yet behind, with a checkpoint after each; then tell of it.

    With `comm` it is called on every rank of it; rank 0 alone touches files, and every rank returns
    the same. Raises InputError for a checkpoint that is of another run, broken or cannot be
    written, and DivergedError; the last checkpoint is whole in any case.
    """
    settings = plan.task.settings
    recipe = recipe_of(plan.strategy, plan.task, data, digest_of(data), SEED)
    run, state = on_first(comm, begin, plan, recipe)
    if len(run.epochs) == settings.epochs:
        return run
    with STRATEGIES[plan.strategy].start(plan.task, comm) as trainer:
        spent = warm_up(trainer, state, data, settings.batch_size)
        run = replace(run, warm_up=(*run.warm_up, spent))
        for number in range(len(run.epochs), settings.epochs):
            batches = batches_of(data, settings.batch_size, number, plan.most)
            losses, epoch = one_epoch(trainer, batches, comm)
            told = on_first(comm, accuracy, plan.task, trainer.weights(), data)
            run = replace(
                run,
                epochs=(*run.epochs, replace(epoch, accuracy=told)),
                losses=(*run.losses, *losses),
            )
            state = trainer.state()
            check_finite(state.weights, number + 1, settings)
            if plan.folder is not None:
                on_first(comm, save, path_of(plan.folder, plan.strategy), run, state)
            if tell is not None:
                tell(run)
    return run


def begin(plan: Plan, recipe: Recipe) -> tuple[Run, State]:
    """Where training goes on from: the first weights, or those of the checkpoint.

    Raises InputError for a folder that cannot be, and for a checkpoint of another run.
    """
    fresh = Run(recipe), State(initial_weights(plan.task.network, plan.task.classes))
    if plan.folder is None:
        return fresh
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--checkpoint-dir {plan.folder}: no such folder can be made ({error.strerror}); "
            f"name another"
        ) from error
    path = path_of(plan.folder, plan.strategy)
    if not plan.resume:
        return fresh
    if not path.exists():
        if not any(path_of(plan.folder, name).exists() for name in STRATEGIES):
            raise InputError(
                f"--resume: there is no checkpoint in {plan.folder}; name their folder with "
                f"--checkpoint-dir, or train without --resume"
            )
        return fresh
    run, state = read(path)
    off = differences(run.recipe, recipe)
    if off:
        raise InputError(
            f"--resume: {path} was trained otherwise: {'; '.join(off)}; ask for the same, or train "
            f"anew without --resume"
        )
    behind, wanted = len(run.epochs), plan.task.settings.epochs
    if behind > wanted:
        raise InputError(
            f"--resume: {path} has {behind} epochs behind it, wanted are {wanted}; ask for "
            f"--epochs {behind} or more"
        )
    return replace(run, resumed=(*run.resumed, behind)), state


def batches_of(
    data: Dataset, batch_size: int, epoch: int, most: int | None = None
) -> Iterator[Batch]:
    """The training images in the order of an epoch, counted from 0; `most`: batches at most."""
    order = np.random.default_rng([SEED, epoch]).permutation(len(data.labels))
    for begin in range(0, len(order), batch_size)[:most]:
        rows = order[begin : begin + batch_size]
        yield Batch(np.ascontiguousarray(data.images[rows]), data.labels[rows])


def warm_up(trainer: Trainer, state: State, data: Dataset, batch_size: int) -> float:
    """Seconds of a step for each size of batch, for what is compiled or planned at its first call.

    The trainer stands at `state` behind it.
    """
    begin = time.perf_counter()
    trainer.load(state)
    count = len(data.labels)
    for size in dict.fromkeys((min(batch_size, count), count % batch_size or batch_size)):
        trainer.train([Batch(data.images[:size], data.labels[:size])])
    spent = time.perf_counter() - begin
    trainer.load(state)
    return spent


def one_epoch(
    trainer: Trainer, batches: Iterator[Batch], comm: Intracomm | None
) -> tuple[list[float], Epoch]:
    """Every step's loss, and the epoch with its accuracy still to be told."""
    losses: list[float] = []
    sizes: list[int] = []
    seconds = 0.0
    hand_over = getattr(trainer, "hand_over", None)
    while chunk := list(islice(batches, STEPS_AT_ONCE)):
        if hand_over is not None:  # where workers see them, as others have them already
            hand_over(chunk)
        if comm is not None:
            comm.Barrier()
        begin = time.perf_counter()
        losses += trainer.train(chunk)
        spent = time.perf_counter() - begin
        seconds += spent if comm is None else max(comm.allgather(spent))
        sizes += [len(batch.labels) for batch in chunk]
    return losses, Epoch(seconds, float(np.average(losses, weights=sizes)), sum(sizes), math.nan)


def check_finite(weights: Arrays, epoch: int, settings: Settings) -> None:
    """Raise DivergedError where the last step, whose loss nobody has seen yet, spoilt a weight."""
    spoilt = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if spoilt:
        raise DivergedError(
            f"{', '.join(spoilt)} infinite or NaN after epoch {epoch}: training diverged with "
            f"{settings.optimizer}, --lr {settings.lr:g}; try a smaller one"
        )


@torch.inference_mode()
def accuracy(task: Task, weights: Arrays, data: Dataset) -> float:
    """Share of the test images that PyTorch's own forward pass tells rightly, in eval mode."""
    network = build(task.network, task.classes).eval()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    right = sum(
        int((network(images).argmax(1) == labels).sum())
        for images, labels in zip(
            torch.from_numpy(data.test_images).split(TEST_BATCH),
            torch.from_numpy(data.test_labels).split(TEST_BATCH),
            strict=True,
        )
    )
    return right / len(data.test_labels)


def on_first(comm: Intracomm | None, act: Callable[..., T], *arguments: object) -> T:
    """What `act` returns on rank 0, on every rank; its InputError is raised on every rank, too."""
    if comm is None:
        return act(*arguments)
    told: tuple[T | None, str | None] | None = None
    if comm.rank == 0:
        try:
            told = act(*arguments), None
        except InputError as error:
            told = None, str(error)
    result, refused = comm.bcast(told)
    if refused is not None:
        raise InputError(refused)
    return result
