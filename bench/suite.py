"""The suite's command line -> one frozen `Suite`; nothing deeper asks pytest for an option."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.sweeps import PARAMETERS, Sweeps, check_workers, parse_sweeps
from bench.training.settings import DEFAULT, Settings, parse_settings
from models import Choice
from models.choice import (
    DEFAULT_MODEL,
    DEFAULT_NUM_INFERENCES,
    DataChoice,
    parse_choice,
    parse_data,
    parse_folder,
)
from pytest_speedup.machine import usable_cpus

CHECKPOINT_DIR = "checkpoints"

OPTIONS = {
    "--model": (
        DEFAULT_MODEL,
        "NAME",
        "lenet, a classification network of torchvision, or package.module:factory. "
        "Default: %(default)s",
    ),
    "--weights": (
        None,
        "FILE",
        "DEFAULT for torchvision's pretrained weights, or a file with a state dict. "
        "Default: random, from a fixed seed, fitted to the images",
    ),
    "--images": (
        None,
        "DIR",
        "Folder of photographs, taken by name; seeded crops of them make up the number. "
        "Default: the photograph that ships with matplotlib",
    ),
    "--image-size": (None, "PIXELS", "Default: what the network's weights ask"),
    "--num-inferences": (
        str(DEFAULT_NUM_INFERENCES),
        "N",
        "Images that one call infers. Default: %(default)s",
    ),
    "--threads": (None, "N,N", "Default: powers of two up to twice the usable CPUs"),
    "--processes": (None, "N,N", "Default: powers of two up to twice the usable CPUs"),
    "--batch-sizes": (None, "N,N", "Default: powers of two up to 32, or to the number of images"),
    "--device": (
        None,
        "NAME,NAME",
        "Some of cpu, cuda, mps, which then have to be there, or all: those that are. Default: all",
    ),
    "--shapes": (
        None,
        "few|all",
        "On how many shapes bench/kernels measures the operators; all take half an hour. "
        "Default: few",
    ),
    "--epochs": (None, "N", f"Of a training run. Default: {DEFAULT.epochs}"),
    "--batch-size": (
        None,
        "N",
        "Images of one training step, over all workers together, or of one that is loaded, but "
        f"then a quarter of all at most. Default: {DEFAULT.batch_size}",
    ),
    "--lr": (None, "RATE", f"Learning rate. Default: {DEFAULT.lr}"),
    "--momentum": (None, "M", f"Of --optimizer sgd. Default: {DEFAULT.momentum}"),
    "--optimizer": (None, "sgd|adam", f"Default: {DEFAULT.optimizer}"),
    "--data-dir": (
        None,
        "DIR",
        "Data to train on and to load: CIFAR-10's files, or a folder of images for each class. "
        "Default: the handwritten digits of scikit-learn to train the CIFAR CNN on, and crops of "
        "photographs to load and for ResNet18",
    ),
    "--subset": (
        None,
        "N",
        "Train on so few images, or load them, as equally many of each class as can be. Default: "
        "all to train on, 64 to load",
    ),
    "--dask-scheduler": (
        None,
        "ADDRESS",
        "Of a running cluster, for bench/loading. Default: a cluster on this machine",
    ),
    "--checkpoint-dir": (
        None,
        "DIR",
        "Where training runs leave weights, metrics and curves. Default: "
        f"{CHECKPOINT_DIR}, where --epochs or --resume asks for such a run; else nothing is left",
    ),
}
"""Option -> default, placeholder, help."""

FLAGS = {
    "--download": "Fetch CIFAR-10 into --data-dir, unless it is there",
    "--resume": "Go on with the training runs whose checkpoints are in --checkpoint-dir",
}
"""Option without a value -> help."""


@dataclass(frozen=True)
class Suite:
    """What the benchmarks are to measure."""

    choice: Choice
    sweeps: Sweeps
    training: Settings
    data: DataChoice
    checkpoint_dir: Path | None
    """None where no training run was asked for, so that a check leaves nothing."""
    resume: bool
    dask_scheduler: str | None = None
    """Where a cluster's scheduler listens; None for a cluster on this machine."""


SUITE = pytest.StashKey[Suite]()


def suite_of(config: pytest.Config) -> Suite:
    """What this session's benchmarks are to measure."""
    return config.stash[SUITE]


def add_options(parser: pytest.Parser) -> None:
    """Declare the suite's options under a heading of their own in `pytest --help`."""
    group = parser.getgroup("suite", "what the benchmarks measure")
    for name, (default, placeholder, text) in OPTIONS.items():
        group.addoption(name, default=default, metavar=placeholder, help=text)
    for name, text in FLAGS.items():
        group.addoption(name, action="store_true", help=text)


def read_suite(config: pytest.Config) -> Suite:
    """The options as they were given; raises InputError for the first that is wrong."""

    def given(name: str) -> str | None:
        return config.getoption(name)

    choice = parse_choice(
        given("--model") or "",
        given("--weights"),
        given("--images"),
        given("--image-size"),
        given("--num-inferences") or "",
    )
    sweeps = parse_sweeps(
        given("--threads"),
        given("--processes"),
        given("--batch-sizes"),
        given("--device"),
        choice.num_inferences,
        given("--shapes"),
    )
    check_workers(sweeps, usable_cpus())
    resume = config.getoption("--resume")
    folder = given("--checkpoint-dir")
    if folder is None and (resume or given("--epochs") is not None):
        folder = CHECKPOINT_DIR
    return Suite(
        choice,
        sweeps,
        training=parse_settings(
            given("--epochs"),
            given("--batch-size"),
            given("--lr"),
            given("--momentum"),
            given("--optimizer"),
        ),
        data=parse_data(
            given("--data-dir"), given("--subset"), download=config.getoption("--download")
        ),
        checkpoint_dir=None if folder is None else parse_folder("--checkpoint-dir", folder),
        resume=resume,
        dask_scheduler=given("--dask-scheduler"),
    )


def allow_threads(config: pytest.Config) -> None:
    """Under MPI let the operators' threads be twice the CPUs: the hybrid's grid goes that far.

    Numba reads the variable when it is imported.
    """
    if config.getoption("with_mpi", default=False):
        os.environ.setdefault("NUMBA_NUM_THREADS", str(2 * usable_cpus()))


def parametrize(metafunc: pytest.Metafunc, suite: Suite) -> None:
    """Give a test every sweep that it takes and does not bring itself."""
    definition = metafunc.definition
    own = {name for mark in definition.iter_markers("parametrize") for name in _names(mark)}
    gpus = definition.get_closest_marker("gpus")
    if gpus is not None:
        own.add("device")
        # bench/kernels brings it together with those
        if not {"case", "network"} & set(metafunc.fixturenames):
            asked = suite.sweeps.devices
            metafunc.parametrize("device", [d for d in gpus.args if d in (asked or gpus.args)])
    marker = definition.get_closest_marker("speedup")
    axis = marker.kwargs.get("axis") if marker is not None else None
    for name in PARAMETERS:
        if name in metafunc.fixturenames and name not in own:
            values = suite.sweeps.values(
                name,
                usable_cpus=usable_cpus(),
                num_inferences=suite.choice.num_inferences,
                is_axis=name == axis,
                ends=definition.get_closest_marker("one_and_all") is not None,
            )
            metafunc.parametrize(name, values)


def _names(mark: pytest.Mark) -> list[str]:
    names = mark.args[0] if mark.args else mark.kwargs["argnames"]
    return [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
