"""The command line -> one frozen `Options`; nothing deeper asks pytest for an option.

Only what the measuring needs is here; the networks, images and sweeps belong to the suite.
"""

from __future__ import annotations

import secrets
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass

import pytest

DEFAULT_PASSES = 5
DEFAULT_TIMEOUT = 120.0


@dataclass(frozen=True)
class Options:
    """How a session measures."""

    passes: int
    seed: int
    """Shuffles the order of each pass; drawn where none was given, and recorded."""
    max_time: float | None
    """Seconds that all passes together may take; None for no limit."""
    timeout: float
    """Seconds that one turn of an MPI arm may take before the whole run is ended."""
    ranks: tuple[int, ...] | None
    """The sweep over `ranks`; None for every power of two up to the world's size."""
    plots: bool
    with_mpi: bool


def _integer(name: str, least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise ArgumentTypeError(
                f"{name} must be a whole number of at least {least}, got {text!r}"
            )
        return value

    return parse


def _seconds(name: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0.0 < value < float("inf"):
            raise ArgumentTypeError(f"{name} must be a number of seconds above 0, got {text!r}")
        return value

    return parse


def parse_counts(name: str, text: str) -> tuple[int, ...]:
    """`"1,2,8"` -> (1, 2, 8); raises ArgumentTypeError for anything but whole numbers from 1."""
    items = [item.strip() for item in text.split(",")]
    if not all(item.isdecimal() and int(item) >= 1 for item in items):
        raise ArgumentTypeError(
            f"{name} must be whole numbers of at least 1 with commas between them, "
            f"such as 1,2,4; got {text!r}"
        )
    return tuple(dict.fromkeys(int(item) for item in items))


def add_options(parser: pytest.Parser) -> None:
    """Declare the plugin's options under a heading of their own in `pytest --help`."""
    group = parser.getgroup("speedup", "speedups of parallel code")
    group.addoption(
        "--speedup-passes",
        type=_integer("--speedup-passes", 1),
        default=DEFAULT_PASSES,
        metavar="N",
        help="Turns that each arm gets; arms take turns in an order shuffled for each pass. "
        "Below 5 there are no intervals. Default: %(default)s",
    )
    group.addoption(
        "--speedup-seed",
        type=_integer("--speedup-seed", 0),
        default=None,
        metavar="N",
        help="Seed of the order of the passes. Default: drawn, and recorded in the JSON",
    )
    group.addoption(
        "--speedup-max-time",
        type=_seconds("--speedup-max-time"),
        default=None,
        metavar="SECONDS",
        help="Time that all passes together may take: blocks get shorter and no pass is started "
        "that would not end in time. The first pass always runs whole. Default: no limit",
    )
    group.addoption(
        "--speedup-timeout",
        type=_seconds("--speedup-timeout"),
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="Time that one turn of an MPI test may take before the run is ended with the names "
        "of rank and test. Default: %(default)s",
    )
    group.addoption(
        "--ranks",
        type=lambda text: parse_counts("--ranks", text),
        default=None,
        metavar="N,N",
        help="Numbers of MPI ranks that tests with the fixture `comm` run on. "
        "Default: every power of two up to the world's size",
    )
    group.addoption(
        "--speedup-no-plots",
        action="store_true",
        help="Draw no plots beside the saved JSON",
    )


def read_options(config: pytest.Config) -> Options:
    """The options as they were given, with a seed drawn where there was none."""
    seed = config.getoption("speedup_seed")
    with_mpi = any(config.getoption(name, False) for name in ("with_mpi", "only_mpi"))
    return Options(
        passes=config.getoption("speedup_passes"),
        seed=secrets.randbelow(2**31) if seed is None else seed,
        max_time=config.getoption("speedup_max_time"),
        timeout=config.getoption("speedup_timeout"),
        ranks=config.getoption("ranks"),
        plots=not config.getoption("speedup_no_plots"),
        with_mpi=with_mpi,
    )
