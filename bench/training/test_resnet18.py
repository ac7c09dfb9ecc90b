"""ResNet18 on photographs of class folders, in PyTorch: those of --data-dir, or the embedded ones.

Images have 64 pixels a side, so that a call of one step on 32 of them lasts a third of a second on
one thread; ResNet18's own 224 take twelve times as long. Batch norm's running statistics are among
the weights that are compared.

One step alone, because float32 runs that differ in the order of summation part soon: after one they
are off by 0.6 % of an array's change, after two by 7 %. What is allowed, eight times that, then is
5 %, and one wrong label of 32 changes 38 %. Adam divides each gradient by its own size, so that its
first step is as large where the gradient is a rounding error: nothing could be told apart, and its
arms are skipped.
"""

from __future__ import annotations

import pytest

from bench.suite import suite_of
from bench.training.problem import Problem, make_problem, measure
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Task
from models import InputError
from models.choice import DataChoice
from models.datasets import load_dataset
from models.photo_crops import embedded_folders
from pytest_speedup.fields import visible

SIZE = 64
STEPS = 1
MOST = 0.2
"""Of an array's change: a check that allows more finds too little."""
pytestmark = pytest.mark.parametrize("network", [f"resnet18 {SIZE}px"])  # the group's name


@pytest.fixture(scope="session")
def photographs(request: pytest.FixtureRequest) -> Problem:
    """ResNet18 on batches of --batch-size."""
    suite = suite_of(request.config)
    data = suite.data if suite.data.data_dir else DataChoice(data_dir=embedded_folders())
    try:
        dataset = load_dataset(data, SIZE, most=STEPS * suite.training.batch_size)
    except InputError as error:
        raise pytest.fail.Exception(visible(str(error)), pytrace=False) from None
    task = Task("resnet18", suite.training, len(dataset.classes))
    problem = make_problem(task, dataset, STEPS)
    if problem.allowed > MOST:
        pytest.skip(
            f"with {task.settings.optimizer} float32 runs differ too much to be checked: "
            f"{problem.allowed:.2g} of a change would have to be allowed, at most {MOST}"
        )
    return problem


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
