"""One process, the operators by hand: NumPy's as the serial baseline, and the fast ones.

numpy           NumPy's operators on one thread
numba           the fast ones on one thread
numba_threads   the same over `prange`
"""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_limits

from bench.training.numpy_trainer import NumpyTrainer
from bench.training.problem import measure


@pytest.mark.speedup
def test_numpy(speedup, problem):
    with threadpool_limits(1), NumpyTrainer(problem.task, "numpy") as trainer:
        measure(speedup, trainer, problem, cpus=1)


@pytest.mark.speedup
def test_numba(speedup, problem):
    with NumpyTrainer(problem.task, "numba") as trainer:
        measure(speedup, trainer, problem, cpus=1)


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_numba_threads(speedup, problem, threads):
    with NumpyTrainer(problem.task, "numba_threads", threads) as trainer:
        measure(speedup, trainer, problem)
