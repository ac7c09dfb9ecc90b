"""What does Numba lose at the start of a parallel region, on which of its threading layers?

A kernel of about 16 us, called a thousand times by a process of its own: on one thread without a
region, and on two on each layer. Half of the one thread's time is the ideal.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.overhead.regions import TASKS
from kernels.threads import most_threads

CALLS = 1000
ROOT = Path(__file__).parent.parent.parent
LAYERS = ["omp", "tbb", "workqueue"]

pytestmark = pytest.mark.benchmark(group=f"{CALLS} parallel regions")


@contextmanager
def serving(layer: str, threads: int) -> Iterator[subprocess.Popen[str]]:
    """A process on that layer that has compiled and started its threads; skips where it cannot."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.overhead.regions", str(threads)],
        env={**os.environ, "NUMBA_THREADING_LAYER": layer},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        try:
            ready = calls(process, 10)
        except BrokenPipeError:
            ready = None
        if ready is None:
            assert process.stderr is not None
            error = process.stderr.read()
            assert "threading layer" in error, error
            pytest.skip(f"Numba finds no library for its layer {layer!r} here")
        yield process
    finally:
        process.kill()
        process.communicate()


def calls(process: subprocess.Popen[str], count: int) -> float | None:
    """The sum that the process answers with after so many calls, None where it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    return float(answer) if answer else None


@pytest.mark.speedup
def test_one_thread(speedup):
    with serving("workqueue", 1) as process:
        speedup(calls, process, CALLS, expected=2.0 * TASKS, work=CALLS, unit="regions")


@pytest.mark.skipif(most_threads() < 2, reason="one CPU: no second thread")
@pytest.mark.speedup(base="one_thread")
@pytest.mark.parametrize("layer", LAYERS)
def test_two_threads(speedup, layer):
    with serving(layer, 2) as process:
        speedup(calls, process, CALLS, expected=2.0 * TASKS, work=CALLS, unit="regions")
