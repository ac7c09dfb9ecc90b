"""What does measuring cost?

    long_call   10 calls of 100 ms: the harness may add 1 %
    no_op       500,000 calls of nothing: at most 1.5 times what pytest-benchmark's `pedantic` takes

Read the column "relative": the same calls in a bare loop, under pytest-benchmark, and under us. The
time is that of the whole use of a harness, proofs and bookkeeping included.
"""

from __future__ import annotations

import time
from functools import partial

import pytest

from bench.overhead import harness

NO_OPS = 500_000
LONG_CALLS = 10


def nothing() -> None:
    """The fastest function there is."""


@pytest.mark.benchmark(group="harness around calls of 100 ms")
@pytest.mark.parametrize("under", ["pedantic", "speedup"])
@pytest.mark.speedup(base="long_call_bare")
def test_long_call(speedup, pytestconfig, under):
    call = partial(time.sleep, 0.1)
    run = partial(harness.HARNESSES[under], pytestconfig)
    speedup(run, call, LONG_CALLS, expected=LONG_CALLS, work=LONG_CALLS, unit="calls")


@pytest.mark.benchmark(group="harness around calls of 100 ms")
@pytest.mark.speedup
def test_long_call_bare(speedup):
    call = partial(time.sleep, 0.1)
    speedup(harness.bare, call, LONG_CALLS, expected=LONG_CALLS, work=LONG_CALLS, unit="calls")


@pytest.mark.benchmark(group="harness around calls of nothing")
@pytest.mark.speedup
def test_no_op_pedantic(speedup, pytestconfig):
    run = partial(harness.pedantic, pytestconfig)
    speedup(run, nothing, NO_OPS, expected=NO_OPS, work=NO_OPS, unit="calls")


@pytest.mark.benchmark(group="harness around calls of nothing")
@pytest.mark.speedup(base="no_op_pedantic")
def test_no_op_speedup(speedup, pytestconfig):
    run = partial(harness.speedup, pytestconfig)
    speedup(run, nothing, NO_OPS, expected=NO_OPS, work=NO_OPS, unit="calls")
