"""The CIFAR CNN over MPI ranks, each on one thread: `mpirun -n 2 pytest bench/training --with-mpi`.

    mpi            shares of one global batch, one Allreduce: strong scaling
    mpi_weak       as many images for each rank as the batch has on one: weak scaling
    mpi_overlap    the reduction while the backward pass goes on
    mpi_shared     gradients in memory that the ranks share, added up by the optimizer's pass
    independent    the same shares without any communication: this machine's ceiling

What share of a call MPI had, and an Allreduce's bus bandwidth beside a copy's, are kept as facts.
"""

from __future__ import annotations

import pytest

from bench.training.mpi_trainer import IndependentTrainer, MpiTrainer, OverlapTrainer
from bench.training.problem import measure
from bench.training.shared_trainer import SharedTrainer


@pytest.mark.speedup(axis="ranks")
def test_mpi(speedup, comm, problem):
    with MpiTrainer(problem.task, comm) as trainer:
        measure(speedup, trainer, problem)


@pytest.mark.speedup(axis="ranks", scaling="weak")
def test_mpi_weak(speedup, comm, problem, problem_of):
    larger = problem_of(problem.task.settings.batch_size * comm.size)
    with MpiTrainer(larger.task, comm) as trainer:
        measure(speedup, trainer, larger)


@pytest.mark.speedup(axis="ranks")
def test_mpi_overlap(speedup, comm, problem):
    with OverlapTrainer(problem.task, comm) as trainer:
        measure(speedup, trainer, problem)


@pytest.mark.speedup(axis="ranks")
def test_mpi_shared(speedup, comm, problem):
    with SharedTrainer(problem.task, comm) as trainer:
        measure(speedup, trainer, problem)


@pytest.mark.speedup(axis="ranks", serial=False)
def test_independent(speedup, comm, problem, alone):
    with IndependentTrainer(problem.task, comm) as trainer:  # which refuses shares without images
        check = alone(comm.rank, comm.size).check
        measure(speedup, trainer, problem, expected=check)
