"""A training run goes on from its checkpoint as if nothing had been, and never loses the last."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.training.checkpoint import path_of, read, read_run, save
from bench.training.run import Run
from bench.training.runs import Plan, train
from bench.training.settings import Settings
from bench.training.strategies import STRATEGIES, Strategy
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Batch, DivergedError, State, Task
from models import InputError
from models.datasets import DataChoice, Dataset, load_dataset

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """64 digits: with batches of 24 the last one is short."""
    return load_dataset(DataChoice(subset=64))


def plan(folder: Path, strategy: str = "torch_serial", *, resume: bool = False, **settings) -> Plan:
    task = Task("cifar_cnn", Settings(**{"batch_size": 24, **settings}))
    return Plan(strategy, task, folder, resume)


def state_of(folder: Path, strategy: str = "torch_serial") -> tuple[Run, State]:
    return read(path_of(folder, strategy))


def assert_same_bits(actual: tuple[Run, State], expected: tuple[Run, State]) -> None:
    (run, state), (straight, wanted) = actual, expected
    assert run.losses == straight.losses
    assert [e.accuracy for e in run.epochs] == [e.accuracy for e in straight.epochs]
    assert state.steps == wanted.steps
    for kind in ("weights", "buffers"):
        ours, theirs = getattr(state, kind), getattr(wanted, kind)
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            assert ours[name].dtype == array.dtype
            assert ours[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize(
    ("strategy", "optimizer"),
    [
        ("numpy", "sgd"),
        ("numba", "sgd"),
        ("numba", "adam"),
        ("torch_serial", "sgd"),
        ("torch_serial", "adam"),
        ("torch_channels_last", "sgd"),
    ],
)
def test_a_resumed_run_has_the_straight_ones_weights_bit_by_bit(
    tmp_path: Path, data: Dataset, strategy: str, optimizer: str
) -> None:
    settings = {"optimizer": optimizer, "lr": 0.001}
    train(plan(tmp_path / "straight", strategy, epochs=3, **settings), data)
    train(plan(tmp_path / "parts", strategy, epochs=1, **settings), data)
    told: list[Run] = []
    resumed = plan(tmp_path / "parts", strategy, epochs=3, resume=True, **settings)
    run = train(resumed, data, tell=told.append)
    assert [len(each.epochs) for each in told] == [2, 3]
    assert run.resumed == (1,)
    parts, straight = (
        state_of(tmp_path / "parts", strategy),
        state_of(tmp_path / "straight", strategy),
    )
    assert_same_bits(parts, straight)
    other = replace(straight[1], weights={**straight[1].weights, "fc2.bias": np.ones(10)})
    with pytest.raises(AssertionError):
        assert_same_bits(parts, (straight[0], other))


class Stumbling(TorchTrainer):
    """Raises in the middle of an epoch."""

    def __init__(self, task: Task, at: int, error: BaseException) -> None:
        super().__init__(task, threads=1)
        self._at, self._error = at, error

    def train(self, batches: Sequence[Batch]) -> list[float]:
        losses = []
        for batch in batches:
            if self._steps == self._at:
                raise self._error
            losses += super().train([batch])
        return losses


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a worker died")])
def test_a_run_that_stops_within_an_epoch_goes_on_from_its_last_whole_one(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    train(plan(tmp_path / "straight", epochs=3), data)
    with monkeypatch.context() as patch:
        stumbling = Strategy(lambda task, _: Stumbling(task, at=4, error=error))
        patch.setitem(STRATEGIES, "torch_serial", stumbling)
        with pytest.raises(type(error)):
            train(plan(tmp_path / "parts", epochs=3), data)
    assert len(read_run(path_of(tmp_path / "parts", "torch_serial")).epochs) == 1
    train(plan(tmp_path / "parts", epochs=3, resume=True), data)
    assert_same_bits(state_of(tmp_path / "parts"), state_of(tmp_path / "straight"))


def test_a_finished_run_is_not_trained_again(tmp_path: Path, data: Dataset) -> None:
    train(plan(tmp_path, epochs=1), data)
    before = path_of(tmp_path, "torch_serial").read_bytes()
    told: list[Run] = []
    run = train(plan(tmp_path, epochs=1, resume=True), data, tell=told.append)
    assert len(run.epochs) == 1
    assert told == []
    assert path_of(tmp_path, "torch_serial").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lr": 0.02}, "trained otherwise: --lr 0.01, now it is 0.02; ask for the same"),
        ({"batch_size": 32}, "--batch-size 24, now it is 32"),
        ({"optimizer": "adam", "momentum": 0.5}, "--momentum 0.9, now it is 0.5; --optimizer sgd"),
        ({"epochs": 1}, "has 2 epochs behind it, wanted are 1; ask for --epochs 2 or more"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(
    tmp_path: Path, data: Dataset, settings: dict[str, object], says: str
) -> None:
    train(plan(tmp_path, epochs=2), data)
    with pytest.raises(InputError, match=says):
        train(plan(tmp_path, resume=True, **{"epochs": 3, **settings}), data)


def test_a_checkpoint_of_other_images_is_refused(tmp_path: Path, data: Dataset) -> None:
    train(plan(tmp_path), data)
    images = data.images.copy()
    images[5, 0, 3, 3] += 1
    with pytest.raises(InputError, match=r"data's digest .*, now it is"):
        train(plan(tmp_path, epochs=2, resume=True), replace(data, images=images))


def test_resuming_what_never_began(tmp_path: Path, data: Dataset) -> None:
    with pytest.raises(InputError, match=r"--resume: there is no checkpoint in .*parts; name"):
        train(plan(tmp_path / "parts", resume=True), data)
    train(plan(tmp_path / "parts", "numba"), data)
    run = train(plan(tmp_path / "parts", resume=True), data)
    assert run.resumed == ()


def test_a_checkpoint_cut_off_anywhere_is_named(tmp_path: Path, data: Dataset) -> None:
    train(plan(tmp_path), data)
    path = path_of(tmp_path, "torch_serial")
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            InputError, match=r"torch_serial.npz: no whole checkpoint \(.*delete it"
        ):
            train(plan(tmp_path, epochs=2, resume=True), data)
    assert [file.name for file in tmp_path.iterdir()] == ["torch_serial.npz"]


def test_a_changed_byte_is_found_or_changes_nothing(tmp_path: Path, data: Dataset) -> None:
    train(plan(tmp_path), data)
    path = path_of(tmp_path, "torch_serial")
    whole, expected = path.read_bytes(), read(path)
    rng = np.random.default_rng(0)
    ends = [*range(0, 60, 3), *range(len(whole) - 1500, len(whole), 50)]
    places = [*ends, *rng.integers(len(whole), size=15).tolist()]
    read_all_the_same = 0
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            actual = read(path)
        except InputError:
            continue
        assert_same_bits(actual, expected)
        read_all_the_same += 1
    assert read_all_the_same < len(places) / 2


def test_nothing_pickled_is_read(tmp_path: Path) -> None:
    path = path_of(tmp_path, "numba")
    np.savez(path, record=np.array([{"format": 1}], dtype=object))
    with pytest.raises(InputError, match=r"numba.npz: no whole checkpoint .*allow_pickle"):
        read(path)


@pytest.mark.parametrize("record", ["[]", "{}", '{"format": 2}', "no JSON", '{"format": 1}'])
def test_a_record_of_another_kind_is_refused(tmp_path: Path, record: str) -> None:
    path = path_of(tmp_path, "numba")
    np.savez(path, record=np.array(record))
    with pytest.raises(InputError, match=r"numba.npz: no whole checkpoint"):
        read(path)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond it fails as on a disk that is full, after what fits was written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_costs_no_earlier_checkpoint(tmp_path: Path, data: Dataset) -> None:
    train(plan(tmp_path), data)
    before = path_of(tmp_path, "torch_serial").read_bytes()
    says = r"torch_serial.npz of epoch 2 cannot be written \(File too large\); the former one is"
    with files_of_at_most(1_000_000), pytest.raises(InputError, match=says):
        train(plan(tmp_path, epochs=2, resume=True), data)
    assert path_of(tmp_path, "torch_serial").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["torch_serial.npz"]


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_fails_at_the_last_moment_leaves_the_former_checkpoint_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, seen: type[BaseException]
) -> None:
    path = path_of(tmp_path, "numba")
    state = State({"w": np.arange(3.0)})
    save(path, Run({"strategy": "numba"}), state)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(seen) as told:
        save(path, Run({"strategy": "numba"}), State({"w": np.zeros(3)}))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["numba.npz"]
    if told.type is InputError:
        assert "(No space left on device); the former one is kept whole" in str(told.value)


def test_an_earlier_checkpoint_stays_until_the_first_epoch_is_over(
    tmp_path: Path, data: Dataset
) -> None:
    train(plan(tmp_path), data)
    before = path_of(tmp_path, "torch_serial").read_bytes()
    with pytest.raises(DivergedError, match=r"--lr 1e\+06; try a smaller one"):
        train(plan(tmp_path, lr=1e6), data)
    assert path_of(tmp_path, "torch_serial").read_bytes() == before


class Spoiling(TorchTrainer):
    """Its last step makes a weight NaN, which no loss has seen yet."""

    def train(self, batches: Sequence[Batch]) -> list[float]:
        losses = super().train(batches)
        if len(batches) == 3:  # the epoch, and not the warm-up before it
            self._network.fc2.bias.data[0] = np.nan
        return losses


def test_weights_that_the_last_step_spoilt_are_not_kept(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(plan(tmp_path), data)
    before = path_of(tmp_path, "torch_serial").read_bytes()
    spoiling = Strategy(lambda task, _: Spoiling(task, threads=1))
    monkeypatch.setitem(STRATEGIES, "torch_serial", spoiling)
    with pytest.raises(DivergedError, match=r"fc2.bias infinite or NaN after epoch 1: .*--lr 0.01"):
        train(plan(tmp_path), data)
    assert path_of(tmp_path, "torch_serial").read_bytes() == before


def test_a_folder_that_cannot_be_is_told_before_training(tmp_path: Path, data: Dataset) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--checkpoint-dir .*file/in: no such folder can be made"):
        train(plan(tmp_path / "file" / "in"), data)
