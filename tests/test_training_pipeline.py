"""Two stages arrive at the weights of PyTorch in one process, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from training_checks import ADAM, SGD, assert_close, by_torch, digit_batches, start, trained

from bench.training.networks import build
from bench.training.pipeline import StageTrainer, check_schedule, stage_of
from bench.training.settings import Settings
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Task
from bench.training.workers import Pool
from models import InputError

DOUBLE = {"dtype": torch.float64}
KINDS = [(None, 1), ("gpipe", 1), ("gpipe", 4), ("1f1b", 2), ("1f1b", 8)]
IDS = [f"{schedule}-{micro_batches}" for schedule, micro_batches in KINDS]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


def test_the_stages_are_the_whole_network():
    network = build("cifar_cnn", 10).double()
    images = torch.from_numpy(digit_batches(1, 8)[0].images).double()
    first, second = stage_of(SGD, network, 0), stage_of(SGD, network, 1)
    assert torch.equal(second(first(images)), network(images))
    names = [*first.state_dict(), *second.state_dict()]
    assert names == list(network.state_dict())


@pytest.mark.parametrize(("schedule", "micro_batches"), KINDS, ids=IDS)
def test_one_step_and_fifty_are_torchs(pool, schedule, micro_batches):
    batches = digit_batches(50, 8)
    one_step = trained(TorchTrainer(SGD, 1, **DOUBLE), start(), batches[:1])
    kind = {"schedule": schedule, "micro_batches": micro_batches}
    with pool.team(2, StageTrainer, SGD, **DOUBLE, **kind) as team:
        team.load(start())
        team.train(batches[:1])
        assert_close(team.state(), one_step)
        team.train(batches[1:])
        assert_close(team.state(), by_torch(SGD, 50, 8))


def test_adam_goes_on_from_a_state_of_another_strategy(pool):
    first, rest = digit_batches(6, 8)[:3], digit_batches(6, 8)[3:]
    half = trained(TorchTrainer(ADAM, 1, **DOUBLE), start(), first)
    with pool.team(2, StageTrainer, ADAM, schedule="gpipe", micro_batches=2, **DOUBLE) as team:
        team.load(half)
        team.train(rest)
        assert_close(team.state(), by_torch(ADAM, 6, 8))


@pytest.mark.parametrize(("schedule", "micro_batches"), [("gpipe", 4), ("1f1b", 8)])
def test_micro_batches_that_do_not_divide_and_a_last_short_batch_count_as_torchs(
    pool, schedule, micro_batches
):
    batches = [*digit_batches(2, 11), *digit_batches(1, 3), *digit_batches(1, 1)]
    with TorchTrainer(SGD, 1, **DOUBLE) as alone:
        alone.load(start())
        losses = alone.train(batches)
        wanted = alone.state()
    kind = {"schedule": schedule, "micro_batches": micro_batches}
    with pool.team(2, StageTrainer, SGD, **DOUBLE, **kind) as team:
        team.load(start())
        assert team.train(batches) == pytest.approx(losses, rel=1e-12)
        assert_close(team.state(), wanted)


def test_an_image_that_is_left_out_does_not_pass(pool):
    (images, labels), *rest = digit_batches(2, 8)
    batches = [type(rest[0])(images[:7], labels[:7]), *rest]
    with pool.team(2, StageTrainer, SGD, schedule="gpipe", micro_batches=4, **DOUBLE) as team:
        team.load(start())
        team.train(batches)
        with pytest.raises(AssertionError, match="is off by"):
            assert_close(team.state(), by_torch(SGD, 2, 8))


@pytest.mark.parametrize(
    ("task", "micro_batches", "schedule", "ranks", "told"),
    [
        (SGD, 2, None, 2, "model parallel takes one micro-batch, got 2"),
        (SGD, 1, "1f1b", 2, "from 2 micro-batches on, got 1"),
        (SGD, 4, "zigzag", 2, "gpipe or 1f1b; got 'zigzag'"),
        (SGD, 4, "gpipe", 3, "2 stages, got 3 ranks"),
        (replace(SGD, settings=Settings(batch_size=3)), 4, "gpipe", 2, "--batch-size 3: too few"),
        (Task("resnet18", Settings()), 4, "gpipe", 2, "batch norm would see a micro-batch"),
    ],
)
def test_what_cannot_be_pipelined_is_refused(task, micro_batches, schedule, ranks, told):
    with pytest.raises(InputError, match=told):
        check_schedule(task, micro_batches, schedule, ranks)
