"""Strategies of training against PyTorch in one process, in float64, weight by weight.

In float64 no relu of these runs switches by another order of summation, so that 50 steps agree to
13 digits, Adam's to 12; in float32 a single one that does is soon seen in the second digit.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from bench.training.networks import initial_weights
from bench.training.problem import take_batches
from bench.training.settings import Settings
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Batch, State, Task, Trainer
from models.datasets import DataChoice, load_dataset

SGD = Task("cifar_cnn", Settings())
ADAM = Task("cifar_cnn", Settings(optimizer="adam", lr=0.001))
RELATIVE = 1e-11
"""The largest difference over the array's largest number."""


@functools.cache
def digit_batches(steps: int, batch_size: int) -> list[Batch]:
    """Of the embedded digits."""
    return list(take_batches(load_dataset(DataChoice()), batch_size, steps))


@functools.cache
def start() -> State:
    """He's weights, before the first step."""
    return State(initial_weights("cifar_cnn", 10))


@functools.cache
def by_torch(task: Task, steps: int, batch_size: int) -> State:
    """What PyTorch in one process arrives at, in float64."""
    trainer = TorchTrainer(task, threads=1, dtype=torch.float64)
    return trained(trainer, start(), digit_batches(steps, batch_size))


def trained(trainer: Trainer, begin: State, batches: list[Batch]) -> State:
    """The state behind all batches."""
    with trainer:
        trainer.load(begin)
        trainer.train(batches)
        return trainer.state()


def assert_close(actual: State, expected: State, relative: float = RELATIVE) -> None:
    """Weights and the optimizer's buffers, each by name."""
    assert actual.steps == expected.steps
    for kind in ("weights", "buffers"):
        ours, theirs = getattr(actual, kind), getattr(expected, kind)
        assert ours.keys() == theirs.keys()
        for name, wanted in theirs.items():
            off = float(np.abs(ours[name] - wanted).max())
            assert off <= relative * float(np.abs(wanted).max()), f"{name} is off by {off}"
