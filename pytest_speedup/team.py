"""The ranks of one arm, within its test: they decide, fail, start and finish each round together.

Everything here is collective over the arm's ranks. Whoever waits leaves with RankFailedError as
soon as another rank is known to have failed, so that a failure between two steps fails the test on
every rank instead of leaving the others to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pytest_speedup.startline import StartLine

T = TypeVar("T")


class RankFailedError(RuntimeError):
    """Another rank has failed; the message holds its traceback."""

    def __init__(self, rank: int, failure: str) -> None:
        super().__init__(f"on rank {rank}:\n{failure}")


class Team:
    """A start line, the test that runs at it, and how long (seconds) to wait for a rank there."""

    def __init__(self, line: StartLine, test: str, timeout: float) -> None:
        self._line = line
        self._test = test
        self._timeout = timeout

    def agree_on(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        return self._line.exchange(value, f"a decision in {self._test}", self._timeout)[0]

    def all_passed(self, error: Exception | None) -> None:
        """Raise where any rank brings an error: its own there, RankFailedError elsewhere.

        The rank with the error leaves at once, for the end of the test, from where the others hear
        of it while they wait here; where they wait in a collective, the test's end sees to it.
        """
        if error is not None:
            raise error
        self._line.exchange(None, f"a step of {self._test}", self._timeout)

    def start(self) -> float:
        """Wait for a start that all ranks share; its time on this rank's clock, in seconds."""
        return self._line.start(self._timeout).at

    def gather(self, seconds: Sequence[float]) -> list[list[float]]:
        """Seconds [rank][round], on every rank, from this rank's seconds of each round."""
        told = self._line.exchange(list(seconds), f"the end of {self._test}", self._timeout)
        return [list(rounds) for rounds in told]
