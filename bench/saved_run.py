"""What the programs that judge a saved run share: to read it, and to say how sure they are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_speedup.estimate import Estimate
from pytest_speedup.reading import read_run
from pytest_speedup.records import RecordError, Run

MISSED, USAGE = 1, 4
"""Exit codes."""


def run_of(module: str, arguments: Sequence[str]) -> Run | None:
    """The run that `python -m module RUN.json` names; None, with the reason told, without one."""
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m {module} RUN.json\n")
        return None
    try:
        return read_run(Path(arguments[0]))
    except RecordError as error:
        sys.stderr.write(f"{module.rpartition('.')[2]}: {error}\n")
        return None


def sure(word: str, estimate: Estimate, limit: float) -> str:
    """`word`, with a question mark where the interval leaves its side of `limit` open."""
    low, high = estimate.low, estimate.high
    known = low is not None and high is not None and (low >= limit) == (high >= limit)
    return word if known else f"{word}?"
