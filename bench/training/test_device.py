"""One GPU: by torch's own operators, and by ours.

torch_on_device     torch eager; TF32 is off, so that float32 means float32
by_hand_on_device   every forward and backward an operator of `kernels`, in CUDA or Metal
"""

from __future__ import annotations

import pytest

from bench.devices import absence, tf32, within_memory
from bench.training.device_trainer import DeviceTrainer
from bench.training.problem import measure
from models import InputError

pytestmark = pytest.mark.speedup(axis="device", serial=False)

BY_HAND = {"cuda": "cuda", "mps": "metal"}


@pytest.mark.gpus("cuda", "mps")
def test_torch_on_device(speedup, problem, device):
    reason = absence(device)
    if reason is not None:
        pytest.skip(reason)
    with tf32(False), within_memory(), DeviceTrainer(problem.task, device) as trainer:
        measure(speedup, trainer, problem, cpus=1)


@pytest.mark.gpus("cuda", "mps")
def test_by_hand_on_device(speedup, problem, device):
    with tf32(False), within_memory():
        try:
            made = DeviceTrainer(problem.task, device, BY_HAND[device])
        except InputError as error:
            pytest.skip(str(error))
        with made as trainer:
            measure(speedup, trainer, problem, cpus=1)
