"""What a session tells of its training runs while they go on: a line for each epoch."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bench.training.run import Run

TRAINED = pytest.StashKey[dict[str, "Run"]]()
"""Strategy -> its run of this session, as far as it came."""


class Progress:
    """Writes to the terminal in the middle of a test, for which capturing is put off."""

    def __init__(self, config: pytest.Config, epochs: int) -> None:
        plugin = config.pluginmanager.get_plugin
        self._reporter: pytest.TerminalReporter | None = plugin("terminalreporter")
        capture = plugin("capturemanager")
        self._uncaptured = nullcontext if capture is None else capture.global_and_fixture_disabled
        self._epochs = epochs
        self._start = time.monotonic()
        self._before: int | None = None

    def __call__(self, run: Run) -> None:
        """Tell of the last epoch; time left is what those of this session took, on average."""
        if self._reporter is None or self._reporter.verbosity < 0:  # -q
            return
        if self._before is None:
            self._before = len(run.epochs) - 1
        done = len(run.epochs) - self._before
        left = (time.monotonic() - self._start) / done * (self._epochs - len(run.epochs))
        with self._uncaptured():
            self._reporter.ensure_newline()
            self._reporter.write_line(line(run, self._epochs, left), flush=True)


def line(run: Run, epochs: int, left: float) -> str:
    """`numba: epoch 3/10, loss 0.1002, test accuracy 98.1 %, 0.71 s; about 0:06 left`."""
    last = run.epochs[-1]
    minutes, seconds = divmod(round(left), 60)
    to_come = f"; about {minutes}:{seconds:02d} left" if len(run.epochs) < epochs else ""
    return (
        f"{run.strategy}: epoch {len(run.epochs)}/{epochs}, loss {last.loss:.4f}, "
        f"test accuracy {100 * last.accuracy:.1f} %, {last.seconds:.2f} s{to_come}"
    )
