"""Ranks that share every batch arrive at PyTorch's weights; run in worlds of 1, 2 and 4."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_checks import ADAM, SGD, assert_close, by_torch, digit_batches, start, trained

from bench.training.mpi_trainer import IndependentTrainer, MpiTrainer, OverlapTrainer, share_of
from bench.training.settings import Settings
from bench.training.shared_trainer import SharedTrainer
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Batch, DivergedError, State, Task
from models import InputError


def batch_of(images: int) -> Batch:
    return Batch(np.zeros((images, 1)), np.arange(images))


@pytest.mark.parametrize("images", [0, 1, 3, 4, 7, 32])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_shares_cover_a_batch_and_differ_by_one_at_most(images: int, ranks: int) -> None:
    shares = [share_of(batch_of(images), rank, ranks).labels for rank in range(ranks)]
    np.testing.assert_array_equal(np.concatenate(shares), np.arange(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_smaller_than_the_ranks_is_refused() -> None:
    few = Task("cifar_cnn", Settings(batch_size=3))
    with pytest.raises(InputError, match="--batch-size 3: smaller than the 4 ranks"):
        MpiTrainer(few, SimpleNamespace(size=4, rank=0))


def assert_same_bits_on_all_ranks(comm, state: State) -> None:
    for kind in ("weights", "buffers"):
        for name, array in getattr(state, kind).items():
            told = comm.allgather(array.tobytes())
            assert all(bits == told[0] for bits in told), name


def first_step(task: Task) -> State:
    trainer = TorchTrainer(task, threads=1, dtype=torch.float64)
    return trained(trainer, start(), digit_batches(50, 8)[:1])


def arrives(comm, trainer: MpiTrainer, task: Task) -> None:
    """At torch's weights after one step and after fifty."""
    batches = digit_batches(50, 8)
    with trainer:
        trainer.load(start())
        trainer.train(batches[:1])
        assert_close(trainer.state(), first_step(task))
        trainer.train(batches[1:])
        state = trainer.state()
    assert_close(state, by_torch(task, 50, 8))
    assert_same_bits_on_all_ranks(comm, state)


@pytest.mark.mpi
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_point_of_the_hybrids_grid_arrives_at_torchs_weights(comm, threads: int) -> None:
    arrives(comm, MpiTrainer(SGD, comm, threads, dtype=np.float64), SGD)


@pytest.mark.mpi
def test_ranks_arrive_at_torchs_weights_with_adam(comm) -> None:
    arrives(comm, MpiTrainer(ADAM, comm, dtype=np.float64), ADAM)


@pytest.mark.mpi
def test_an_overlapped_reduction_arrives_at_torchs_weights(comm) -> None:
    arrives(comm, OverlapTrainer(SGD, comm, dtype=np.float64), SGD)


@pytest.mark.mpi
@pytest.mark.parametrize("task", [SGD, ADAM], ids=["sgd", "adam"])
def test_gradients_in_shared_memory_arrive_at_torchs_weights(comm, task: Task) -> None:
    arrives(comm, SharedTrainer(task, comm, dtype=np.float64), task)


@pytest.mark.mpi
@pytest.mark.parametrize("trainer", [MpiTrainer, OverlapTrainer, SharedTrainer])
def test_batches_that_do_not_divide_and_a_last_short_one_count_as_torchs(
    comm, trainer: type[MpiTrainer]
) -> None:
    batches = [*digit_batches(2, 7), *digit_batches(1, 3), *digit_batches(1, 1)]
    state = trained(trainer(SGD, comm, dtype=np.float64), start(), batches)
    alone = trained(MpiTrainer(SGD, comm.Split(comm.rank), dtype=np.float64), start(), batches)
    assert_close(state, alone)
    assert_same_bits_on_all_ranks(comm, state)


class LastIsLate(SharedTrainer):
    """Its last rank lets the others run ahead before it reads what they wrote."""

    def _gradients(self, batch: Batch) -> NDArray:
        rows = super()._gradients(batch)
        if self._comm.rank == self._comm.size - 1:
            time.sleep(0.3)
        return rows


@pytest.mark.mpi
def test_a_rank_that_begins_anew_leaves_what_a_late_one_still_reads(comm) -> None:
    (first,), second = digit_batches(1, 8), digit_batches(2, 8)[1]
    with LastIsLate(SGD, comm, dtype=np.float64) as trainer:
        trainer.load(start())
        trainer.train([first])
        state = trainer.state()
        trainer.load(start())
        trainer.train([second])
    assert_same_bits_on_all_ranks(comm, state)
    assert_close(state, by_torch(SGD, 1, 8))


@pytest.mark.mpi
def test_all_ranks_know_the_whole_batchs_loss(comm) -> None:
    with MpiTrainer(SGD, comm) as trainer:
        trainer.load(start())
        losses = trainer.train(digit_batches(3, 8))
    assert len(losses) == 3
    assert comm.allgather(losses) == [losses] * comm.size


@pytest.mark.mpi
@pytest.mark.parametrize("kind", [MpiTrainer, SharedTrainer])
def test_all_ranks_stop_where_one_would_diverge(comm, kind: type[MpiTrainer]) -> None:
    poisoned = [
        batch._replace(
            images=np.where(np.arange(8)[:, None, None, None] == 7, np.inf, batch.images)
        )
        for batch in digit_batches(2, 8)
    ]
    trainer = kind(SGD, comm)
    with pytest.raises(DivergedError, match="at step 1"):
        trained(trainer, start(), poisoned)
    comm.Barrier()  # nobody is left in a collective of its end


@pytest.mark.mpi
def test_what_mpi_costs_is_told(comm) -> None:
    with MpiTrainer(SGD, comm) as trainer:
        trainer.load(start())
        trainer.train(digit_batches(2, 8))
        facts = trainer.facts
    assert 0 < facts["mpi_share"] < 1
    assert ("bus_gb_s" in facts) == (comm.size > 1)


@pytest.mark.mpi
def test_without_an_allreduce_ranks_learn_their_shares_alone(comm) -> None:
    batches = digit_batches(5, 8)
    state = trained(IndependentTrainer(SGD, comm, dtype=np.float64), start(), batches)
    mine = [share_of(batch, comm.rank, comm.size) for batch in batches]
    own = trained(MpiTrainer(SGD, comm.Split(comm.rank), dtype=np.float64), start(), mine)
    assert_close(state, own)
    if comm.size > 1:
        with pytest.raises(AssertionError, match="is off by"):
            assert_close(state, by_torch(SGD, 5, 8))
