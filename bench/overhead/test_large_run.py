"""How long do table and plots of 2,000 arms take? They may take 20 s together."""

from __future__ import annotations

import json
from functools import partial

import pytest

from pytest_speedup.analysis import analyse
from pytest_speedup.plots import draw
from pytest_speedup.reading import read_run
from pytest_speedup.table import render

GROUPS, SERIES = 50, 10
WORKERS = (1, 2, 4, 8)
PASSES = 5


def made_up(group: int, series: int, workers: int) -> dict[str, object]:
    """One entry of `benchmarks`."""
    test = f"test_made_up_{group}.py::test_arm{series}"
    proof = {
        "bitwise": True,
        "max_abs_error": 0.0,
        "tolerance": None,
        "check": False,
        "facts": {},
    }
    arm = {
        "schema": 1,
        "strategy": f"arm{series}",
        "axis": "workers",
        "workers": workers,
        "base": f"{test}[workers=1]",
        "work": 16,
        "unit": "images",
        "scaling": "strong",
        "cpus": workers,
        "oversubscribed": False,
        "serial": workers == 1,
        "blocks": [[1.0 / workers + 0.01 * p] * 4 for p in range(PASSES)],
        "repeat": None,
        "ranks": None,
        "verified": proof,
        "threads": None,
        "device": "cpu",
        "first_call": None,
        "facts": {},
    }
    return {
        "group": f"group {group}",
        "name": f"test_arm{series}[workers={workers}]",
        "fullname": f"{test}[workers={workers}]",
        "params": {"workers": workers},
        "extra_info": {"speedup": arm},
    }


@pytest.fixture(scope="module")
def large_run(tmp_path_factory):
    """A made-up run of 2,000 arms; nothing in it was measured."""
    benchmarks = [
        made_up(group, series, workers)
        for group in range(GROUPS)
        for series in range(SERIES)
        for workers in WORKERS
    ]
    path = tmp_path_factory.mktemp("large") / "made-up.json"
    run = {
        "schema": 1,
        "passes": PASSES,
        "passes_done": PASSES,
        "seed": 0,
        "incomplete": None,
        "world_size": 1,
        "load_1min": None,
        "not_run": [],
    }
    whole = {
        "machine_info": {"speedup": {"cpu_model": "made up", "usable_cpus": 8}},
        "commit_info": {},
        "datetime": "2000-01-01T00:00:00+00:00",
        "benchmarks": benchmarks,
        "speedup": run,
    }
    path.write_text(json.dumps(whole))
    return path


def tabulate(path) -> int:
    return render(analyse(read_run(path))).count("bitwise")


def plot(path) -> bool:
    return bool(draw([analyse(read_run(path))], path.parent, path.stem))


@pytest.mark.benchmark(group="a run of 2,000 arms")
@pytest.mark.speedup
def test_table_of_a_large_run(speedup, large_run):
    arms = GROUPS * SERIES * len(WORKERS)
    speedup(partial(tabulate, large_run), expected=arms, work=arms, unit="arms")


@pytest.mark.benchmark(group="a run of 2,000 arms")
@pytest.mark.speedup(serial=False)
def test_plots_of_a_large_run(speedup, large_run):
    arms = GROUPS * SERIES * len(WORKERS)
    speedup(partial(plot, large_run), expected=True, work=arms, unit="arms")
