"""A training run takes each image once an epoch, is timed fairly, and is told of as it was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from worlds import PREAMBLE, ROOT, launch

from bench.suite import SUITE, Suite
from bench.sweeps import Sweeps
from bench.training.checkpoint import path_of, read, save
from bench.training.conftest import pytest_terminal_summary
from bench.training.curves import curves, smoothed
from bench.training.networks import initial_weights
from bench.training.numpy_trainer import NumpyTrainer
from bench.training.progress import TRAINED, line
from bench.training.run import Epoch, Run
from bench.training.runs import CHECK_STEPS, Plan, accuracy, batches_of, one_epoch, train
from bench.training.settings import Settings
from bench.training.strategies import STRATEGIES, names
from bench.training.summary import goal_of, metrics, side_by_side, table
from bench.training.test_accuracy import assert_learned
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Batch, State, Task
from models import Choice
from models.datasets import DataChoice, Dataset, load_dataset
from models.numpy_cnn import NumpyCnn
from pytest_speedup.measuring import STATE

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

SGD = Task("cifar_cnn", Settings(batch_size=24))
RECIPE = {
    "strategy": "numba", "network": "cifar_cnn", "data": "digits", "training images": 1437,
    "--batch-size": 32, "--optimizer": "sgd", "--lr": 0.01, "--momentum": 0.9,
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Dataset:
    """64 digits: with batches of 24 the last one is short."""
    return load_dataset(DataChoice(subset=64))


def made(strategy: str, *accuracies: float, seconds: float = 2.0, **recipe: object) -> Run:
    """A run with these accuracies."""
    epochs = [Epoch(seconds, 0.5**i, 1437, share) for i, share in enumerate(accuracies)]
    losses = tuple(0.9**i for i in range(45 * len(epochs)))
    return Run({**RECIPE, "strategy": strategy, **recipe}, tuple(epochs), losses, (0.3,))


def test_an_epoch_takes_every_image_once_in_an_order_of_its_own(data: Dataset) -> None:
    first, again, second = (list(batches_of(data, 24, epoch)) for epoch in (0, 0, 1))
    assert [len(batch.labels) for batch in first] == [24, 24, 16]
    for batch, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(batch.images, same.images)
        assert batch.images.flags.c_contiguous
    whole = [np.concatenate([batch.images for batch in epoch]) for epoch in (first, second)]
    assert not np.array_equal(*whole)
    by_bytes = [sorted(image.tobytes() for image in images) for images in (*whole, data.images)]
    assert by_bytes[0] == by_bytes[1] == by_bytes[2]


def test_neither_warm_up_nor_test_changes_a_bit_of_training(tmp_path: Path, data: Dataset) -> None:
    run = train(Plan("torch_serial", SGD, tmp_path), data)
    with TorchTrainer(SGD, threads=1) as trainer:
        trainer.load(State(initial_weights("cifar_cnn", 10)))
        losses = trainer.train(list(batches_of(data, 24, 0)))
        state = trainer.state()
    assert list(run.losses) == losses
    _, kept = read(path_of(tmp_path, "torch_serial"))
    for name, weights in state.weights.items():
        assert kept.weights[name].tobytes() == weights.tobytes()
    assert run.epochs[0].loss == pytest.approx(np.average(losses, weights=[24, 24, 16]))
    assert run.epochs[0].images == 64


def test_accuracy_is_the_share_of_images_told_rightly(data: Dataset) -> None:
    weights = initial_weights("cifar_cnn", 10)
    network = NumpyCnn("numpy")
    for name, array in network.weights.named.items():
        array[...] = weights[name]
    told = network.forward(data.test_images).argmax(1)
    assert accuracy(SGD, weights, data) == (told == data.test_labels).mean()
    assert accuracy(SGD, weights, replace(data, test_labels=told)) == 1


def test_a_check_is_short_and_leaves_nothing(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = Task("cifar_cnn", Settings(batch_size=2))
    run = train(Plan("numba", task), data)
    assert len(run.losses) == CHECK_STEPS < 32
    assert run.epochs[0].images == 2 * CHECK_STEPS
    assert list(tmp_path.iterdir()) == []


def test_what_workers_have_to_be_handed_first_is_not_timed(data: Dataset) -> None:
    class Handed:
        def hand_over(self, batches: Sequence[Batch]) -> None:
            self.there = batches
            time.sleep(0.5)

        def train(self, batches: Sequence[Batch]) -> list[float]:
            assert batches is self.there
            return [1.0] * len(batches)

    losses, epoch = one_epoch(Handed(), batches_of(data, 24, 0), None)
    assert losses == [1.0] * 3
    assert epoch.seconds < 0.5


@pytest.mark.parametrize(("rank", "files"), [(0, {"curves.png", "metrics.json"}), (1, set())])
def test_the_first_rank_alone_writes_what_a_session_says_in_the_end(
    tmp_path: Path, rank: int, files: set[str]
) -> None:
    run, stash = made("numba", 0.9), pytest.Stash()
    save(path_of(tmp_path, "numba"), run, State({}))
    stash[TRAINED] = {"numba": run}
    stash[SUITE] = SimpleNamespace(checkpoint_dir=tmp_path)
    stash[STATE] = SimpleNamespace(world=SimpleNamespace(rank=rank))
    reporter = Mock(config=SimpleNamespace(stash=stash))
    reporter._tw._file.encoding = "utf-8"
    pytest_terminal_summary(reporter)
    assert {path.name for path in tmp_path.iterdir()} - {"numba.npz"} == files


def test_a_folders_name_may_have_a_colon() -> None:
    assert curves([made("numba", 0.9)], 0.9, "cifar_cnn on a: b, 5 images: batch 32, sgd")


def test_seconds_to_an_accuracy_are_those_of_the_epochs_up_to_it() -> None:
    run = made("numba", 0.9, 0.98, 0.96, 0.97)
    assert run.seconds_to(0.9) == 2
    assert run.seconds_to(0.97) == 4
    assert run.seconds_to(0.99) is None
    assert (run.final, run.best, run.seconds) == (0.97, 0.98, 8)
    assert run.images_per_second == 1437 / 2


def test_the_goal_is_97_percent_of_the_digits_and_else_what_all_reached() -> None:
    assert goal_of([made("numpy", 0.5), made("numba", 0.6)]) == 0.97
    photos = [made("numpy", 0.5, 0.4, data="photos"), made("numba", 0.6, data="photos")]
    assert goal_of(photos) == 0.5


def test_the_table_says_what_its_seconds_are() -> None:
    resumed = replace(made("numpy", 0.9, 0.975, seconds=3), resumed=(1,))
    lines = table([resumed, made("numba", 0.98, 0.5)], here=["numpy"])
    assert lines[0] == "cifar_cnn on digits, 1,437 images: batch 32, sgd, lr 0.01, momentum 0.9"
    cells = [line.split() for line in lines[2:5]]
    assert cells[1][:8] == ["numpy+", "2", "97.5", "%", "97.5", "%", "6.0", "3.00"]
    assert cells[2][:8] == ["numba*", "2", "50.0", "%", "98.0", "%", "2.0", "2.00"]
    notes = " ".join(lines[5:])
    assert "no interval" in notes
    assert "no speedups" in notes
    assert "* of an earlier session" in notes
    assert "+ went on from a checkpoint" in notes
    (other,) = table([made("numba", 0.5)], here=["numba"])[3:4]
    assert "not reached" in other


def test_runs_made_from_something_else_do_not_stand_beside(tmp_path: Path) -> None:
    state = State({"w": np.zeros(1)})
    like, other = made("numba", 0.9), made("numpy", 0.9, **{"--lr": 0.5})
    for run in (like, other, made("torch_serial", 0.8)):
        save(path_of(tmp_path, run.strategy), run, state)
    path_of(tmp_path, "torch_intra_op").write_bytes(b"broken")
    runs, problems = side_by_side(tmp_path, like)
    assert [run.strategy for run in runs] == ["numba", "torch_serial"]
    assert len(problems) == 1
    assert "torch_intra_op.npz: no whole checkpoint" in problems[0]


def test_metrics_are_plain_json() -> None:
    told = json.loads(json.dumps(metrics([made("numba", 0.9, 0.98)], here=["numba"])))
    run = told["runs"]["numba"]
    assert (run["final_accuracy"], run["seconds_to_goal"], told["goal"]) == (0.98, 4, 0.97)
    assert len(run["losses"]) == 90
    assert "no interval" in told["note"]
    assert told["machine"]["versions"]["torch"]


def test_curves_name_every_run_and_lie_where_the_losses_are() -> None:
    runs = [made(name, 0.9, 0.98) for name in STRATEGIES]
    figure = curves(runs, 0.97, "cifar_cnn on digits: batch 32")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(STRATEGIES)
    over_epochs, loss, accuracies = figure.axes
    assert list(loss.lines[0].get_xdata()) == [2, 4]
    assert list(accuracies.lines[0].get_ydata()) == [90, 98]
    epochs, losses = smoothed(runs[0])
    assert list(over_epochs.lines[0].get_ydata()) == list(losses)
    assert epochs[0] == pytest.approx(0.1)
    assert losses[0] == pytest.approx(np.mean(runs[0].losses[:9]))


def test_a_line_of_progress() -> None:
    run = made("numba", 0.9, 0.975)
    assert line(run, 10, 61.2) == (
        "numba: epoch 2/10, loss 0.5000, test accuracy 97.5 %, 2.00 s; about 1:01 left"
    )
    assert line(run, 2, 0.0).endswith("2.00 s")


def test_a_run_that_has_not_learned_is_refused() -> None:
    suite = Suite(Choice(), Sweeps(), Settings(epochs=10), DataChoice(), Path("x"), resume=False)
    good = made("numba", *[0.9] * 8, 0.971, 0.969)
    assert_learned(good, suite)
    for bad in (
        made("numba", *[0.9] * 8, 0.965, 0.969),
        made("numba", *[0.9] * 8, 0.98, 0.95),
        replace(good, losses=good.losses[::-1]),
    ):
        with pytest.raises(AssertionError):
            assert_learned(bad, suite)
    other = replace(suite, training=Settings(epochs=10, lr=0.5))
    assert_learned(made("numba", 0.1), other)


def test_every_strategy_is_for_one_process_or_for_ranks() -> None:
    assert sorted(names(over_ranks=True) + names(over_ranks=False)) == sorted(STRATEGIES)
    assert "mpi" in names(over_ranks=True)


RANKS = (
    PREAMBLE
    + """
from pathlib import Path
from bench.training.runs import Plan, train
from bench.training.settings import Settings
from bench.training.trainer import Task
from models import InputError
from models.datasets import DataChoice, load_dataset
data = load_dataset(DataChoice(subset=64))
comm = world.first(2)
folder = Path("of_rank", str(comm.rank))
def run(resume, **settings):
    task = Task("cifar_cnn", Settings(batch_size=24, **settings))
    return train(Plan("mpi", task, folder, resume), data, comm)
whole = run(False, epochs=1)
same = comm.allgather(run(True, epochs=2).losses)
assert same[0] == same[1] and len(same[0]) == 6
try:
    run(True, epochs=3, lr=0.5)
except InputError as error:
    say(comm.rank, "refused:", error)
world.stop()
"""
)


def test_over_ranks_the_first_alone_keeps_files_and_all_hear_of_what_is_wrong(
    tmp_path: Path, data: Dataset
) -> None:
    (tmp_path / "run.py").write_text(RANKS)
    ended = launch(2, tmp_path / "run.py", timeout=120)
    assert ended.code == 0, ended.out + ended.err
    assert ended.left == ()
    for rank in (0, 1):
        assert (
            f"{rank} refused: --resume: of_rank/0/mpi.npz was trained otherwise: --lr" in ended.out
        )
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.npz")] == ["of_rank/0/mpi.npz"]
    run, state = read(tmp_path / "of_rank" / "0" / "mpi.npz")
    assert (run.resumed, state.steps) == ((1,), 6)
    with NumpyTrainer(SGD, "numba") as alone:
        alone.load(State(initial_weights("cifar_cnn", 10)))
        first = alone.train(list(batches_of(data, 24, 0)))
    assert run.losses[:3] == pytest.approx(first, rel=1e-4)


def session(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest on the accuracy of numba, in a process of its own."""
    command = [
        *(sys.executable, "-m", "pytest", "bench/training/test_accuracy.py", "-p"),
        *("no:cacheprovider", "-k", "numba and not threads", "--subset", "64", *options),
        *("--checkpoint-dir", str(folder)),
    ]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_session_shows_progress_and_resumes_where_it_was(tmp_path: Path) -> None:
    first = session(tmp_path, "--epochs", "1")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "numba: epoch 1/1, loss " in first.stdout
    assert "cifar_cnn on digits, 64 images: batch 32, sgd, lr 0.01, momentum 0.9" in first.stdout
    files = {"curves.png", "metrics.json", "numba.npz"}
    assert {path.name for path in tmp_path.iterdir()} == files
    second = session(tmp_path, "--epochs", "2", "--resume")
    assert "numba: epoch 2/2, loss " in second.stdout
    assert "epoch 1/2" not in second.stdout
    assert "numba+ " in second.stdout
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    diverged = session(tmp_path, "--epochs", "3", "--lr", "1e12")
    assert diverged.returncode == 1
    assert "\nthe loss is nan at step" in diverged.stdout
    assert "Traceback" not in diverged.stdout + diverged.stderr
    assert len(read(tmp_path / "numba.npz")[0].epochs) == 2
