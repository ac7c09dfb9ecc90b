"""What tests share: a suite run inside a test, a clock of its own, torch on one thread."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

# Before any run inside: pytester forgets what such a run imports first, and it loads only once.
import numpy as np
import pytest

# Helpers that assert: without this a failure there says nothing.
for helper in (
    "kernel_checks",
    "gpu_checks",
    "sanitizer_runs",
    "batch_norm_checks",
    "conv2d_checks",
):
    pytest.register_assert_rewrite(f"tests.{helper}")

Measure = Callable[..., tuple[pytest.RunResult, dict[str, Any]]]

FAKE_CLOCK = '''
"""A clock that moves only when a workload says so."""
import random

NOW = [0.0]
RANDOM = random.Random(1)
DRIFT = [0.0]  # how much slower the machine gets per second


def now():
    NOW[0] += 1e-7  # pytest-benchmark waits for a clock's tick
    return NOW[0]


def spend(seconds, noise=0.0):
    """Let `seconds` of work pass, with some noise, on a machine that may get slower."""
    slower = 1.0 + DRIFT[0] * NOW[0]
    NOW[0] += seconds * slower * (1.0 + noise * (RANDOM.random() - 0.5))
'''


@pytest.fixture(autouse=True)
def not_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs within a test are runs of their own: no worker of pytest-xdist, though the test is."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Runs within pytester keep the written order: pytest-randomly is installed for one test.

    That test takes the variable away again.
    """
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly")
    return pytester


@pytest.fixture
def measure(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Run a test file with pytest inside this process -> the result, and its JSON or {}."""
    # pytest-benchmark asks other programs about the CPU for a second, whenever it saves.
    monkeypatch.setattr("pytest_benchmark.plugin.get_cpu_info", dict)

    def run(source: str, *options: str) -> tuple[pytest.RunResult, dict[str, Any]]:
        pytester.syspathinsert()
        if source:
            pytester.makepyfile(test_suite=source, fake_clock=FAKE_CLOCK)
        with warnings.catch_warnings():
            # The run inside is not to be judged by the filters of the run outside; it saves what
            # it has, and some have nothing.
            warnings.simplefilter("default")
            warnings.filterwarnings("ignore", message="Not saving anything")
            result = pytester.runpytest_inprocess("--benchmark-json=run.json", *options)
        saved = pytester.path / "run.json"
        return result, json.loads(saved.read_text()) if saved.exists() else {}

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def torch_on_one_thread() -> Iterator[None]:
    """On arrays as small as the operators' tests have, threads cost more than they save.

    On a busy machine a hundred times more: each call waits until all of them had their turn.
    """
    from kernels.pytorch import torch_threads

    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> Callable[[str, str], Any]:
    """gpu("relu", "cuda"): an operator by its GPU source, on arrays; see `tests.gpu_checks`."""
    from tests.gpu_checks import make_gpu

    return make_gpu(request.config)


@pytest.fixture(scope="session")
def by_triton(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """by_triton("conv2d", "triton", x, weight): an operator by Triton's kernels, on arrays."""
    from tests.triton_checks import make_by_triton

    made = make_by_triton(request.config.getoption("--device"))
    yield made
    made.close()


FAKED = ("--benchmark-timer=fake_clock.now", "--speedup-no-plots")
"""Times with the clock of `fake_clock`, in which a workload spends what it likes at no cost."""


def timed(data: dict[str, Any]) -> dict[str, Any]:
    """Test name -> `extra_info["speedup"]`, of every arm that has a time."""
    return {b["name"]: b["extra_info"]["speedup"] for b in data.get("benchmarks", [])}
