"""DistributedDataParallel arrives at the weights of PyTorch in one process, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_checks import ADAM, SGD, assert_close, by_torch, digit_batches, start, trained

from bench.training.ddp import DdpTrainer
from bench.training.networks import build, initial_weights
from bench.training.process_group import joined_over
from bench.training.settings import Settings
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Batch, State, Task
from bench.training.workers import Pool, Team
from models import InputError

DOUBLE = {"dtype": torch.float64}
RESNET = Task("resnet18", Settings(batch_size=4))


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        pool.workers(4)  # at once: they start side by side
        yield pool


def trained_by(team: Team, batches: list[Batch]) -> State:
    team.load(start())
    team.train(batches)
    return team.state()


def assert_same_bits(states: list[State]) -> None:
    for state in states:
        for kind in ("weights", "buffers"):
            for name, array in getattr(states[0], kind).items():
                np.testing.assert_array_equal(getattr(state, kind)[name], array, name)


@pytest.mark.parametrize(
    ("task", "processes"),
    [(SGD, 1), (SGD, 2), (SGD, 4), (ADAM, 2)],
    ids=["sgd-1", "sgd-2", "sgd-4", "adam-2"],
)
def test_one_step_and_fifty_are_torchs_with_the_same_bits_on_all_ranks(pool, task, processes):
    batches = digit_batches(50, 8)
    one_step = trained(TorchTrainer(task, 1, **DOUBLE), start(), batches[:1])
    with pool.team(processes, DdpTrainer, task, **DOUBLE) as team:
        team.load(start())
        team.train(batches[:1])
        assert_close(team.state(), one_step)
        team.train(batches[1:])
        assert_close(team.state(), by_torch(task, 50, 8))
        states = team.states()
    assert len(states) == processes
    assert_same_bits(states)


def test_uneven_shares_and_last_batches_of_fewer_images_than_ranks_count_as_torchs(pool):
    batches = [*digit_batches(2, 7), *digit_batches(1, 3), *digit_batches(1, 1)]
    alone = trained(TorchTrainer(SGD, 1, **DOUBLE), start(), batches)
    with pool.team(4, DdpTrainer, SGD, **DOUBLE) as team:
        assert_close(trained_by(team, batches), alone)
        assert_same_bits(team.states())


def test_losses_are_the_whole_batchs(pool):
    batches = digit_batches(3, 7)
    with TorchTrainer(SGD, 1, **DOUBLE) as alone:
        alone.load(start())
        wanted = alone.train(batches)
    with pool.team(2, DdpTrainer, SGD, **DOUBLE) as team:
        team.load(start())
        assert team.train(batches) == pytest.approx(wanted, rel=1e-12)


def test_a_single_wrong_label_does_not_pass(pool):
    first, second = digit_batches(2, 8)
    labels = second.labels.copy()
    labels[7] = (labels[7] + 1) % 10
    with pool.team(2, DdpTrainer, SGD, **DOUBLE) as team:
        state = trained_by(team, [first, second._replace(labels=labels)])
    with pytest.raises(AssertionError, match="is off by"):
        assert_close(state, by_torch(SGD, 2, 8))


def test_training_goes_on_from_a_state_of_another_strategy(pool):
    first, rest = digit_batches(6, 8)[:3], digit_batches(6, 8)[3:]
    half = trained(TorchTrainer(ADAM, 1, **DOUBLE), start(), first)
    with pool.team(2, DdpTrainer, ADAM, **DOUBLE) as team:
        team.load(half)
        team.train(rest)
        assert_close(team.state(), by_torch(ADAM, 6, 8))


def test_a_batch_size_smaller_than_the_ranks_is_refused_and_the_workers_stay(pool):
    few = replace(SGD, settings=Settings(batch_size=3))
    pids = pool.pids
    with pytest.raises(InputError, match="--batch-size 3: too few images for 4 ranks"):
        pool.team(4, DdpTrainer, few).__enter__()
    assert pool.pids == pids


def test_where_a_steps_time_goes_is_told_and_changes_no_weight(pool):
    with pool.team(2, DdpTrainer, SGD) as team:
        before = trained_by(team, digit_batches(2, 8))
        facts = team.facts
        assert_close(team.state(), before, relative=0)
    assert facts["gradient_mb"] == pytest.approx(1_070_794 * 4 / 1e6)
    assert all(facts[f"{part}_ms"] > 0 for part in ("forward", "backward", "allreduce_alone"))


def test_batch_norm_is_each_ranks_own(pool):
    """As torch's DDP does: the weights are the same on all ranks, and not a single process'."""
    begin = State(initial_weights("resnet18", 10))
    batches = digit_batches(1, 4)
    alone = trained(TorchTrainer(RESNET, 1, **DOUBLE), begin, batches)
    with pool.team(2, DdpTrainer, RESNET, **DOUBLE) as team:
        team.load(begin)
        team.train(batches)
        first, second = team.states()
        mean = team.weights()["bn1.running_mean"].copy()
        with pytest.raises(InputError, match="a batch of 1 images leaves some of 2 ranks without"):
            team.train(digit_batches(1, 1))
    trainable = [name for name, _ in build("resnet18", 10).named_parameters()]
    for name in trainable:
        np.testing.assert_array_equal(first.weights[name], second.weights[name], name)
    assert not np.array_equal(first.weights["bn1.running_mean"], second.weights["bn1.running_mean"])
    np.testing.assert_array_equal(mean, first.weights["bn1.running_mean"])
    with pytest.raises(AssertionError, match="is off by"):
        assert_close(first, alone)


def test_batch_norm_over_all_ranks_is_refused_on_cpus(pool):
    with pytest.raises(InputError, match="needs CUDA in torch"):
        pool.team(2, DdpTrainer, RESNET, sync_batch_norm=True).__enter__()


@pytest.mark.mpi
def test_ranks_of_mpi_arrive_at_torchs_weights(comm):
    network = build("cifar_cnn", 10).double()
    with joined_over(comm):
        state = trained(DdpTrainer(SGD, network), start(), digit_batches(50, 8))
    assert_close(state, by_torch(SGD, 50, 8))
    assert_same_bits(comm.allgather(state))
