"""Mixed precision: what fewer bits gain in time, and what they change.

amp        bfloat16 autocast on the CPU
amp_cuda   float16 with a gradient scaler, and bfloat16, on a GPU

Not the same result, so it is nobody's serial base; how far off it is stands with the time.
"""

from __future__ import annotations

import pytest
import torch

from bench.devices import absence
from bench.training.amp import AmpTrainer, reduced_precision
from bench.training.problem import measure


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads", serial=False)
def test_amp(speedup, problem, threads):
    with AmpTrainer(problem.task, threads) as trainer:
        measure(speedup, trainer, problem, expected=reduced_precision(problem))


@pytest.mark.speedup(serial=False)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_amp_cuda(speedup, problem, precision):
    if reason := absence("cuda"):
        pytest.skip(reason)
    kind = {"precision": getattr(torch, precision), "device": "cuda"}
    with AmpTrainer(problem.task, threads=1, **kind) as trainer:
        measure(speedup, trainer, problem, expected=reduced_precision(problem), cpus=1)
