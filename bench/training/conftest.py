"""Arms that train one network are one group; the data and the reference are made once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest

from bench.suite import suite_of
from bench.training.progress import TRAINED
from models import InputError
from pytest_speedup.fields import visible
from pytest_speedup.measuring import state_of

if TYPE_CHECKING:
    from bench.training.problem import Problem
    from bench.training.workers import Pool
    from models.datasets import Dataset

DATASET = pytest.StashKey["Dataset"]()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Group what is compared."""
    callspec = getattr(item, "callspec", None)
    network = "cifar_cnn" if callspec is None else callspec.params.get("network", "cifar_cnn")
    settings = suite_of(item.config).training
    title = f"training {network}, batch {settings.batch_size}, {settings.optimizer}"
    item.add_marker(pytest.mark.benchmark(group=title))
    takes_world = "all_ranks" in getattr(item, "fixturenames", ())
    if takes_world and item.config.pluginmanager.has_plugin("pytest_mpi"):
        item.add_marker("mpi")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out points of the hybrid's grid with more than two threads for each usable CPU."""
    grid = [item for item in items if _threads_of(item)]
    if not grid:  # and perhaps no arm at all: then nobody has looked at the machine
        return
    most = 2 * state_of(config).usable_cpus
    beyond = [item for item in grid if _threads_of(item) > most]
    if beyond:
        items[:] = [item for item in items if item not in beyond]
        config.hook.pytest_deselected(items=beyond)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load the CIFAR CNN's data: what is wrong with them ends the run in one line, at once."""
    option = session.config.option
    taken = any("dataset" in getattr(item, "fixturenames", ()) for item in session.items)
    if not taken or option.collectonly or option.setupplan:
        return
    from models.cifar_cnn import CLASSES
    from models.datasets import load_dataset

    try:
        data = load_dataset(suite_of(session.config).data, classes=CLASSES)
    except InputError as error:
        raise pytest.UsageError(visible(str(error))) from error
    session.config.stash[DATASET] = data


def _threads_of(item: pytest.Item) -> int:
    """All ranks' together, of a test that has both; of others 0."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params["ranks"] * params["threads"] if {"ranks", "threads"} <= set(params) else 0


@pytest.fixture(scope="session")
def dataset(request: pytest.FixtureRequest) -> Dataset:
    """The images of --data-dir, or the embedded digits, for the CIFAR CNN."""
    return request.config.stash[DATASET]


@pytest.fixture(scope="session")
def problem_of(request: pytest.FixtureRequest, dataset: Dataset) -> Callable[[int], Problem]:
    """A function of the whole batch's size -> the CIFAR CNN's problem.

    Fails in one line where training with these settings diverges.
    """
    from bench.training.problem import make_problem
    from bench.training.trainer import DivergedError, Task

    task = Task("cifar_cnn", suite_of(request.config).training)

    def of(batch_size: int) -> Problem:
        try:
            return make_problem(task, dataset, batch_size=batch_size)
        except DivergedError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    return cache(of)


@pytest.fixture(scope="session")
def problem(request: pytest.FixtureRequest, problem_of: Callable[[int], Problem]) -> Problem:
    """The CIFAR CNN on batches of --batch-size."""
    return problem_of(suite_of(request.config).training.batch_size)


@pytest.fixture(scope="session")
def alone(problem: Problem) -> Callable[[int, int], Problem]:
    """A function of rank and ranks -> the problem of a rank that trains on its shares alone."""
    from bench.training.problem import problem_on
    from bench.training.trainer import share_of

    return cache(
        lambda rank, ranks: problem_on(
            problem.task, [share_of(batch, rank, ranks) for batch in problem.batches]
        )
    )


@pytest.fixture(scope="session")
def workers() -> Iterator[Pool]:
    """Worker processes for all arms, started as they are needed."""
    from bench.training.workers import Pool

    with Pool() as pool:
        yield pool


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell of the runs to accuracy side by side, where there were any; rank 0 speaks for all."""
    config = terminalreporter.config
    done, folder = config.stash.get(TRAINED, {}), suite_of(config).checkpoint_dir
    world = state_of(config).world if done else None
    if done and folder is not None and (world is None or world.rank == 0):
        from bench.training.summary import summarise

        summarise(done, folder, terminalreporter)
