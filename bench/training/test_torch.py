"""PyTorch in one process: on one thread, and each operator split over intra-op threads.

torch_serial          contiguous memory, one thread: the reference itself
torch_intra_op        the same over threads
torch_channels_last   channels innermost over threads: mostly PyTorch's fastest on a CPU
"""

from __future__ import annotations

import pytest

from bench.training.problem import measure
from bench.training.torch_trainer import TorchTrainer


@pytest.mark.speedup
def test_torch_serial(speedup, problem):
    with TorchTrainer(problem.task, threads=1) as trainer:
        measure(speedup, trainer, problem, cpus=1)


@pytest.mark.speedup(axis="threads")
def test_torch_intra_op(speedup, problem, threads):
    with TorchTrainer(problem.task, threads) as trainer:
        measure(speedup, trainer, problem)


@pytest.mark.speedup(axis="threads")
def test_torch_channels_last(speedup, problem, threads):
    with TorchTrainer(problem.task, threads, channels_last=True) as trainer:
        measure(speedup, trainer, problem)
