"""The network cut into two stages, a process each: see `pipeline`.

model_parallel   one micro-batch: a stage works while the other waits
pipeline         more of them, by GPipe or 1F1B; its speedup is told against `model_parallel`
"""

from __future__ import annotations

import pytest

from bench.training.pipeline import STAGES, StageTrainer
from bench.training.problem import measure
from bench.training.process_group import absence_of_gpus


@pytest.mark.speedup
def test_model_parallel(speedup, problem, workers):
    with workers.team(STAGES, StageTrainer, problem.task) as trainer:
        measure(speedup, trainer, problem, cpus=STAGES)


@pytest.mark.speedup
def test_model_parallel_cuda(speedup, problem, workers):
    if reason := absence_of_gpus(STAGES):
        pytest.skip(reason)
    with workers.team(STAGES, StageTrainer, problem.task, device="cuda") as trainer:
        measure(speedup, trainer, problem, cpus=STAGES)


@pytest.mark.speedup(axis="micro_batches", base="model_parallel")
@pytest.mark.parametrize("micro_batches", [1, 2, 4, 8])
def test_gpipe(speedup, problem, workers, micro_batches):
    kind = {"schedule": "gpipe", "micro_batches": micro_batches}
    with workers.team(STAGES, StageTrainer, problem.task, **kind) as trainer:
        measure(speedup, trainer, problem, cpus=STAGES)


@pytest.mark.speedup(axis="micro_batches", base="model_parallel")
@pytest.mark.parametrize("micro_batches", [2, 4, 8])  # with one there are no turns to take
def test_one_f_one_b(speedup, problem, workers, micro_batches):
    kind = {"schedule": "1f1b", "micro_batches": micro_batches}
    with workers.team(STAGES, StageTrainer, problem.task, **kind) as trainer:
        measure(speedup, trainer, problem, cpus=STAGES)
