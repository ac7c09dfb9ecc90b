"""pytest-benchmark's `pedantic` and the fixture `speedup`, called by hand to be timed themselves.

What a harness costs is the time of a call under it, less that of a bare loop around the function.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pytest_speedup.fixture import Plan, Speedup


def fresh(config: pytest.Config) -> BenchmarkFixture:
    """A `benchmark` fixture of its own, whose results go nowhere."""
    session = config.pluginmanager.get_plugin("pytest-benchmark")
    return BenchmarkFixture(
        SimpleNamespace(name="harness", nodeid="harness"),
        add_stats=lambda _: None,
        logger=session.logger,
        warner=lambda _: None,
        disabled=False,
        **session.options,
    )


def bare(function: Callable[[], object], rounds: int) -> int:
    """A loop that a careful script would write: one clock reading before and after each call."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return len(seconds)


def pedantic(config: pytest.Config, function: Callable[[], object], rounds: int) -> int:
    """The same under pytest-benchmark."""
    fixture = fresh(config)
    fixture.pedantic(function, rounds=rounds)
    return len(fixture.stats.stats.data)


def speedup(config: pytest.Config, function: Callable[[], object], rounds: int) -> int:
    """The same under this plugin, proofs included; its first call is one of the rounds."""
    fixture = fresh(config)
    kept: list[object] = []
    measured = Speedup(
        fixture, plan=Plan(rounds - 1, 1), block_seconds=0.4, team=None, keep=kept.append
    )
    measured(function, expected=None)
    return len(fixture.stats.stats.data) + 1


HARNESSES = {"pedantic": pedantic, "speedup": speedup}
