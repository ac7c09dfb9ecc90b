"""How far a long run is: pass, arm and time left.

On a terminal one line that is written over; elsewhere one line per pass, so that a log stays short.
"""

from __future__ import annotations

import shutil
import time

import pytest


class Progress:
    """Writes through the terminal reporter's own stream, which capturing leaves alone."""

    def __init__(self, reporter: pytest.TerminalReporter | None, passes: int) -> None:
        self._reporter = reporter
        self._passes = passes
        self._live = reporter is not None and reporter.isatty and reporter.verbosity >= 0
        self._shown = False
        self._number = 0
        self._turns = 0
        self._pass_start = 0.0
        self._pass_seconds: list[float] = []

    def begin_pass(self, number: int, turns: int) -> None:
        """Say that pass `number`, from 0, begins and has so many turns."""
        now = time.monotonic()
        if number:
            self._pass_seconds.append(now - self._pass_start)
        self._number, self._turns, self._pass_start = number, turns, now
        if self._reporter is None or self._live or self._passes == 1:
            return
        if self._reporter.verbosity < 0:  # -q
            return
        left = f", about {_clock(self._left(0.0))} left" if self._pass_seconds else ""
        self._reporter.ensure_newline()
        self._reporter.write_line(f"speedup: pass {number + 1}/{self._passes}, {turns} turns{left}")

    def begin_turn(self, index: int, nodeid: str) -> None:
        """Say whose turn it is."""
        if not self._live or self._reporter is None:
            return
        spent = time.monotonic() - self._pass_start
        if self._pass_seconds:
            left = self._left(spent)
        elif index:
            left = spent / index * (self._turns * self._passes) - spent
        else:
            left = None
        name = nodeid.rpartition("::")[2]
        text = f"speedup: pass {self._number + 1}/{self._passes}  turn {index + 1}/{self._turns}"
        text += f"  {_clock(left)} left  {name}" if left is not None else f"  {name}"
        if not self._shown:
            self._reporter.ensure_newline()
        width = shutil.get_terminal_size().columns - 1
        self._write("\r\x1b[K" + text.encode("ascii", "replace").decode()[:width])
        self._shown = True

    def clear(self) -> None:
        """Take the line away, before pytest writes one of its own."""
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def _left(self, spent: float) -> float:
        each = sum(self._pass_seconds) / len(self._pass_seconds)
        return max(0.0, each * (self._passes - self._number) - spent)

    def _write(self, text: str) -> None:
        assert self._reporter is not None
        self._reporter.write(text, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
