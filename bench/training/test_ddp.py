"""DistributedDataParallel over processes and over MPI ranks, an intra-op thread each.

ddp         a batch of --batch-size shared by all: strong scaling. With one process it is what DDP
            costs against `torch_serial`; its facts tell where a step's time goes
ddp_weak    a batch of --batch-size for each process
ddp_ranks   the same code under mpirun, over gloo, on one host or several
ddp_cuda    a GPU for each process, over nccl
"""

from __future__ import annotations

import pytest

from bench.inference.forward import torch_threads
from bench.training.ddp import DdpTrainer
from bench.training.networks import build
from bench.training.problem import measure
from bench.training.process_group import absence_of_gpus, joined_over


@pytest.mark.speedup(axis="processes")
def test_ddp(speedup, problem, workers, processes):
    with workers.team(processes, DdpTrainer, problem.task) as trainer:
        measure(speedup, trainer, problem)


@pytest.mark.speedup(axis="processes", scaling="weak")
def test_ddp_weak(speedup, problem, problem_of, workers, processes):
    larger = problem_of(processes * problem.task.settings.batch_size)
    with workers.team(processes, DdpTrainer, larger.task) as trainer:
        measure(speedup, trainer, larger)


@pytest.mark.speedup(axis="ranks")
def test_ddp_ranks(speedup, problem, comm):
    network = build(problem.task.network, problem.task.classes)
    with torch_threads(1), joined_over(comm), DdpTrainer(problem.task, network) as trainer:
        measure(speedup, trainer, problem)


@pytest.mark.speedup(axis="processes", serial=False)
def test_ddp_cuda(speedup, problem, workers, processes):
    if reason := absence_of_gpus(processes):
        pytest.skip(reason)
    with workers.team(processes, DdpTrainer, problem.task, device="cuda") as trainer:
        measure(speedup, trainer, problem)
