"""Every way of training, a line each, in the order in which tables and legends show them.

A line of its own is all that a strategy needs to be trained to accuracy, to have its checkpoint and
its curve. It says what starts the strategy: a context manager that yields a Trainer, from the task
and, with `over_ranks`, the MPI communicator whose ranks all train; without, that is None. Workers
are as many as there are usable CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from bench.training.amp import AmpTrainer
from bench.training.ddp import DdpTrainer
from bench.training.mpi_trainer import MpiTrainer, OverlapTrainer
from bench.training.numpy_trainer import NumpyTrainer
from bench.training.pipeline import STAGES, StageTrainer
from bench.training.shared_trainer import SharedTrainer
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Task, Trainer
from bench.training.worker import Make
from bench.training.workers import Pool
from pytest_speedup.machine import usable_cpus

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

    Start = Callable[[Task, Intracomm | Any], AbstractContextManager[Trainer]]


@dataclass(frozen=True)
class Strategy:
    """How a strategy is started."""

    start: Start
    over_ranks: bool = False
    """Whether it needs an MPI communicator, and every rank of it to take part."""


@contextmanager
def numpy_on_one_thread(task: Task) -> Iterator[Trainer]:
    """NumPy's matrix products would take every CPU otherwise."""
    with threadpool_limits(1), NumpyTrainer(task, "numpy") as trainer:
        yield trainer


@contextmanager
def in_processes(size: int, make: Make, task: Task, **options: Any) -> Iterator[Trainer]:
    """Workers of their own, ended afterwards."""
    with Pool() as pool, pool.team(size, make, task, **options) as trainer:
        yield trainer


def threads_of(comm: Intracomm) -> int:
    """Of each rank: its part of the usable CPUs, but two at least, or it were no hybrid."""
    return max(2, usable_cpus() // comm.size)


FOUR = {"micro_batches": 4}
STRATEGIES: Mapping[str, Strategy] = {
    "numpy": Strategy(lambda task, _: numpy_on_one_thread(task)),
    "numba": Strategy(lambda task, _: NumpyTrainer(task, "numba")),
    "numba_threads": Strategy(lambda task, _: NumpyTrainer(task, "numba_threads", usable_cpus())),
    "mpi": Strategy(lambda task, comm: MpiTrainer(task, comm), over_ranks=True),
    "mpi_overlap": Strategy(lambda task, comm: OverlapTrainer(task, comm), over_ranks=True),
    "mpi_shared": Strategy(lambda task, comm: SharedTrainer(task, comm), over_ranks=True),
    "hybrid": Strategy(
        lambda task, comm: MpiTrainer(task, comm, threads_of(comm)), over_ranks=True
    ),
    "torch_serial": Strategy(lambda task, _: TorchTrainer(task, threads=1)),
    "torch_intra_op": Strategy(lambda task, _: TorchTrainer(task, usable_cpus())),
    "torch_channels_last": Strategy(
        lambda task, _: TorchTrainer(task, usable_cpus(), channels_last=True)
    ),
    "amp": Strategy(lambda task, _: AmpTrainer(task, usable_cpus())),
    "ddp": Strategy(lambda task, _: in_processes(usable_cpus(), DdpTrainer, task)),
    "model_parallel": Strategy(lambda task, _: in_processes(STAGES, StageTrainer, task)),
    "gpipe": Strategy(
        lambda task, _: in_processes(STAGES, StageTrainer, task, schedule="gpipe", **FOUR)
    ),
    "one_f_one_b": Strategy(
        lambda task, _: in_processes(STAGES, StageTrainer, task, schedule="1f1b", **FOUR)
    ),
}


def names(*, over_ranks: bool) -> list[str]:
    """Of the strategies that do, or do not, need MPI."""
    return [name for name, strategy in STRATEGIES.items() if strategy.over_ranks is over_ranks]
