"""Mixed precision: near float32's weights, and its check finds runs that are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_checks import ADAM, SGD

from bench.training.amp import AmpTrainer, reduced_precision
from bench.training.problem import Problem, make_problem
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Arrays, Batch
from models.datasets import DataChoice, load_dataset

TASKS = {"sgd": SGD, "adam": ADAM}


@pytest.fixture(scope="module", params=TASKS)
def problem(request: pytest.FixtureRequest) -> Problem:
    return make_problem(TASKS[request.param], load_dataset(DataChoice()), batch_size=16)


def weights_after(trainer: TorchTrainer, problem: Problem, batches: list[Batch]) -> Arrays:
    with trainer:
        trainer.load(problem.start)
        trainer.train(batches)
        return trainer.state().weights


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_fewer_bits_change_less_than_is_allowed_and_more_than_rounding(problem, precision):
    trainer = AmpTrainer(problem.task, 1, precision=getattr(torch, precision))
    weights = weights_after(trainer, problem, problem.batches)
    assert reduced_precision(problem)(weights)["change_error"] > 0.001
    with pytest.raises(AssertionError, match="is off by"):
        problem.check(weights)


def test_labels_in_another_order_do_not_pass(problem):
    first, *rest = problem.batches
    wrong = [first._replace(labels=np.roll(first.labels, 1)), *rest]
    weights = weights_after(TorchTrainer(problem.task, 1), problem, wrong)
    with pytest.raises(AssertionError, match="is off by"):
        reduced_precision(problem)(weights)


def test_an_array_that_was_not_trained_does_not_pass(problem):
    for name in problem.reference:
        weights = {**problem.reference, name: problem.start.weights[name]}
        with pytest.raises(AssertionError, match=f"{name} is off by"):
            reduced_precision(problem)(weights)


@pytest.mark.parametrize("problem", ["sgd"], indirect=True)
def test_a_step_that_is_left_out_does_not_pass(problem):
    weights = weights_after(TorchTrainer(problem.task, 1), problem, problem.batches[:-1])
    with pytest.raises(AssertionError, match="is off by"):
        reduced_precision(problem)(weights)


@pytest.mark.parametrize("problem", ["sgd"], indirect=True)
def test_weights_of_another_kind_do_not_pass(problem):
    check = reduced_precision(problem)
    name = "conv1.weight"
    right = problem.reference[name]
    for wrong in (right.astype(np.float64), right[:-1], right * np.float32(np.nan)):
        with pytest.raises(AssertionError, match=name):
            check({**problem.reference, name: wrong})
