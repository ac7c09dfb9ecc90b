"""ResNet18 on photographs of class folders, in PyTorch: those of --data-dir, or the embedded ones.

Images have 64 pixels a side and a call makes two steps, so that it lasts about a second; ResNet18's
own 224 take twelve times as long. Batch norm's running statistics are among the weights that are
compared.
"""

from __future__ import annotations

import pytest

from bench.suite import suite_of
from bench.training.problem import Problem, make_problem, measure
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Task
from models.choice import DataChoice
from models.datasets import load_dataset
from models.photo_crops import embedded_folders

SIZE = 64
STEPS = 2
pytestmark = pytest.mark.parametrize("network", [f"resnet18 {SIZE}px"])  # the group's name


@pytest.fixture(scope="session")
def photographs(request: pytest.FixtureRequest) -> Problem:
    """ResNet18 on batches of --batch-size."""
    suite = suite_of(request.config)
    data = suite.data if suite.data.data_dir else DataChoice(data_dir=embedded_folders())
    dataset = load_dataset(data, SIZE)
    return make_problem(Task("resnet18", suite.training, len(dataset.classes)), dataset, STEPS)


@pytest.mark.speedup
def test_torch_serial(speedup, photographs, network):
    with TorchTrainer(photographs.task, threads=1) as trainer:
        measure(speedup, trainer, photographs, cpus=1)


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_torch_intra_op(speedup, photographs, network, threads):
    with TorchTrainer(photographs.task, threads) as trainer:
        measure(speedup, trainer, photographs)


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_torch_channels_last(speedup, photographs, network, threads):
    with TorchTrainer(photographs.task, threads, channels_last=True) as trainer:
        measure(speedup, trainer, photographs)
