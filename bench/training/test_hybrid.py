"""MPI between ranks and threads within them, over a grid; and PyTorch in the same launch.

    hybrid                          ranks x threads, up to twice the usable CPUs
    torch_channels_last_one_rank    PyTorch in one process, on one thread and on all
    torch_intra_op_one_rank         the same in contiguous memory

A thread layer that spins would take the CPUs of other ranks; under MPI the operators' threads are
TBB's, which make room (`kernels.threads`).
"""

from __future__ import annotations

import pytest

from bench.training.mpi_trainer import MpiTrainer
from bench.training.problem import measure
from bench.training.torch_trainer import TorchTrainer


@pytest.mark.speedup(axis="ranks")
def test_hybrid(speedup, comm, problem, threads):
    with MpiTrainer(problem.task, comm, threads) as trainer:
        measure(speedup, trainer, problem)


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
@pytest.mark.parametrize("ranks", [1], indirect=True)
def test_torch_channels_last_one_rank(speedup, comm, problem, threads):
    with TorchTrainer(problem.task, threads, channels_last=True) as trainer:
        measure(speedup, trainer, problem)


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
@pytest.mark.parametrize("ranks", [1], indirect=True)
def test_torch_intra_op_one_rank(speedup, comm, problem, threads):
    with TorchTrainer(problem.task, threads) as trainer:
        measure(speedup, trainer, problem)
