"""The suite's options and what its benchmarks share; the work is done in `bench` and `models`.

Nothing here imports torch until a benchmark that needs it was collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bench import suite
from models import InputError
from pytest_speedup.fields import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from bench.workload import Workload

WORKLOAD = pytest.StashKey["Workload"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare --model, --images, --threads and their kind."""
    suite.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options before anything is collected."""
    config.addinivalue_line(
        "markers", "one_and_all: sweep worker counts over 1 and all usable CPUs only"
    )
    config.addinivalue_line(
        "markers", "gpus(*devices): measure on cuda, mps or both, where they are asked for"
    )
    with usage_errors():
        config.stash[suite.SUITE] = suite.read_suite(config)
    suite.allow_threads(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Sweep the benchmarks over what was asked for."""
    suite.parametrize(metafunc, suite.suite_of(metafunc.config))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load network and images before anything runs, so that bad input ends the run at once."""
    option = session.config.option
    if option.collectonly or option.setupplan:
        return
    taken = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    asked = suite.suite_of(session.config)
    with usage_errors():
        if "device" in taken:
            from bench.devices import require

            require(asked.sweeps.devices or ())
        if "case" in taken:
            from bench.kernels.arms import check_threads

            check_threads(asked.sweeps.threads)
        if "workload" in taken:
            from bench.workload import prepare

            session.config.stash[WORKLOAD] = prepare(asked.choice)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Bad input ends the run with one line, without control characters, and exit code 4."""
    try:
        yield
    except InputError as error:
        raise pytest.UsageError(visible(str(error))) from error


@pytest.fixture(scope="session")
def workload(request: pytest.FixtureRequest) -> Workload:
    """Network, images and reference, loaded before the first test ran."""
    return request.config.stash[WORKLOAD]


@pytest.fixture(scope="session")
def model(workload: Workload) -> nn.Module:
    """The network of --model and --weights, float32, in eval mode; nothing may change it."""
    return workload.model


@pytest.fixture(scope="session")
def images(workload: Workload) -> Tensor:
    """float32 [num_inferences, channels, size, size], contiguous."""
    return workload.images


@pytest.fixture(scope="session")
def logits(workload: Workload) -> Tensor:
    """float32 [num_inferences, classes]: one image after another, one thread, eager."""
    return workload.logits


@pytest.fixture(scope="session")
def rounding(workload: Workload) -> Callable[[Tensor], float]:
    """What another order of summation may change; see `bench.tolerances`."""
    from bench.tolerances import rounding_bound

    return rounding_bound(workload.model, workload.images, workload.logits)
