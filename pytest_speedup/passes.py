"""Which arm runs when: arms take turns, in an order of its own for every pass.

A drift of the machine then touches all arms alike, and a ratio taken within a pass is free of it.
Every turn is an ordinary run of the test through pytest's own protocol, so that fixtures, time-outs
and warnings work as ever; its reports are held back and logged once, after the last turn.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
from pytest_benchmark.session import BenchmarkSession

from pytest_speedup.ledger import Ledger, Turns
from pytest_speedup.outcomes import Outcome
from pytest_speedup.progress import Progress

RunItem = Callable[[pytest.Item, "pytest.Item | pytest.Collector | None"], Outcome]


@dataclass(frozen=True)
class Turn:
    """One run of one arm."""

    nodeid: str
    repeat: bool
    """The second run of a group's base arm in this pass."""


def order_of_pass(
    nodeids: Sequence[str], twice: Sequence[str], seed: int, number: int
) -> list[Turn]:
    """The shuffled turns of one pass; a function of its arguments alone, so alike on all ranks."""
    turns = [Turn(nodeid, False) for nodeid in nodeids]
    turns += [Turn(nodeid, True) for nodeid in twice]
    random.Random(f"{seed}:{number}").shuffle(turns)
    for i in range(1, len(turns)):
        if turns[i].nodeid == turns[i - 1].nodeid and i + 1 < len(turns):
            turns[i], turns[i + 1] = turns[i + 1], turns[i]
    seen: set[str] = set()
    ordered = []
    for turn in turns:
        ordered.append(Turn(turn.nodeid, turn.nodeid in seen))
        seen.add(turn.nodeid)
    return ordered


class Passes:
    """Runs a ledger's arms, pass by pass."""

    def __init__(
        self,
        session: pytest.Session,
        ledger: Ledger,
        benchmarks: BenchmarkSession,
        run_item: RunItem,
        is_active: Callable[[pytest.Item], bool],
        progress: Progress,
        within_time: Callable[[float, float], bool],
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._benchmarks = benchmarks
        self._run_item = run_item
        self._is_active = is_active
        self._progress = progress
        self._within_time = within_time
        self._began = 0.0

    def run(self) -> None:
        """Run every pass, then log each arm's reports once, in collection order.

        Whatever ends the run early (Ctrl-C, -x, a plugin) leaves what was measured until then,
        marked incomplete.
        """
        ledger = self._ledger
        try:
            self._run_passes()
        except BaseException as error:
            ledger.incomplete = _ending(error, ledger)
            raise
        finally:
            self._progress.clear()
            ledger.current = None
            ledger.close(self._benchmarks)
            for turns in ledger.arms.values():
                self._log(turns)

    def _run_passes(self) -> None:
        ledger = self._ledger
        started = before_last = self._began = time.monotonic()
        for number in range(ledger.passes):
            now = time.monotonic()
            if number and not self._within_time(now - started, now - before_last):
                break
            before_last = now
            self._run_pass(number)
            ledger.passes_done = number + 1
            if all(turns.out for turns in ledger.arms.values()):
                ledger.passes_done = ledger.passes  # nothing is left out by ending here
                break

    def _run_pass(self, number: int) -> None:
        ledger = self._ledger
        nodeids = [nodeid for nodeid, turns in ledger.arms.items() if not turns.out]
        twice = [nodeid for nodeid in nodeids if ledger.runs_twice(nodeid)]
        turns = order_of_pass(nodeids, twice, ledger.seed, number)
        self._progress.begin_pass(number, len(turns))
        for i, turn in enumerate(turns):
            if ledger.arms[turn.nodeid].out:
                continue
            self._progress.begin_turn(i, turn.nodeid)
            item = ledger.arms[turn.nodeid].item
            following = self._following(turns[i + 1 :], number)
            with _shown_once(item.config, shown=number > 0 or turn.repeat):
                self._take(turn, item.parent if following is item else following)
            self._stop_if_asked()
            if (substitute := ledger.substitute(turn.nodeid)) is not None:
                turns.append(Turn(substitute, repeat=True))
            if following is item and ledger.arms[turn.nodeid].out:
                # It was to run again at once and kept its module's fixtures; now others follow.
                self._session._setupstate.teardown_exact(
                    self._following(turns[i + 1 :], number)  # type: ignore[arg-type]
                )

    def _following(self, turns: Sequence[Turn], number: int) -> pytest.Item | pytest.Session | None:
        """Whose set-up has to stay alive: that of the next turn which runs in this process."""
        for turn in turns:
            coming = self._ledger.arms[turn.nodeid]
            if not coming.out and self._is_active(coming.item):
                return coming.item
        # The next pass may begin with any arm; the session's own fixtures are all they share.
        return self._session if number + 1 < self._ledger.passes else None

    def _take(self, turn: Turn, nextitem: pytest.Item | pytest.Collector | None) -> None:
        ledger = self._ledger
        turns = ledger.arms[turn.nodeid]
        ledger.current, ledger.is_repeat, ledger.taken = turns, turn.repeat, None
        already = len(self._benchmarks.benchmarks)
        began = time.monotonic()
        try:
            outcome = self._run_item(turns.item, nextitem)
        finally:
            benches = self._benchmarks.benchmarks[already:]
            del self._benchmarks.benchmarks[already:]
        turns.reports = outcome.reports
        for report in turns.reports:
            spent = turns.durations.get(report.when, 0.0) + report.duration
            turns.durations[report.when] = spent
        if outcome.ended is None:
            good = [bench for bench in benches if not bench.has_error]
            ledger.keep(turns, good, began - self._began)
            return
        ledger.drop(turns, outcome.ended)
        if outcome.ended.kind == "failed":
            self._log(turns)

    def _log(self, turns: Turns) -> None:
        """Report a test to pytest, once, with the time of all its turns."""
        if turns.reported or not turns.reports:
            return
        turns.reported = True
        hook, item = turns.item.ihook, turns.item
        self._progress.clear()
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in turns.reports:
            report.duration = turns.durations.get(report.when, report.duration)
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _stop_if_asked(self) -> None:
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)


@contextlib.contextmanager
def _shown_once(config: pytest.Config, *, shown: bool) -> Iterator[None]:
    """Keep `--setup-show` quiet about a turn of a test that it has shown already."""
    asked = config.option.setupshow
    config.option.setupshow = asked and not shown
    try:
        yield
    finally:
        config.option.setupshow = asked


def _ending(error: BaseException, ledger: Ledger) -> str:
    where = f"in pass {ledger.passes_done + 1} of {ledger.passes}"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted {where}"
    if isinstance(error, pytest.Session.Failed | pytest.Session.Interrupted):
        return f"{error} {where}"
    return f"ended by {str(error) or type(error).__name__} {where}"
