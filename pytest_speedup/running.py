"""How a session that measures runs its tests: each once, and the arms in passes.

The plugin asks for it at the run loop alone, so that a suite without arms never loads what it
needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_speedup.ledger import Ledger
from pytest_speedup.marks import reference_arms
from pytest_speedup.measuring import Measuring
from pytest_speedup.outcomes import Outcome, fail_for_subtests, outcome_of, shared_outcome
from pytest_speedup.passes import Passes
from pytest_speedup.progress import Progress

GRACE_SECONDS = 5.0
"""How long a rank that failed waits for the others before it takes them to be stuck."""


class Running:
    """Runs one session's tests."""

    def __init__(self, state: Measuring) -> None:
        self._state = state
        self._world = state.world
        self._options = state.options

    def is_active(self, item: pytest.Item) -> bool:
        """Whether this rank runs the test's body, or sits it out."""
        if self._world is None:
            return True
        return self._world.rank < self.ranks_of(item)

    def ranks_of(self, item: pytest.Item) -> int:
        """How many ranks run the test's body."""
        assert self._world is not None
        callspec = getattr(item, "callspec", None)
        if callspec is None or "comm" not in getattr(item, "fixturenames", ()):
            return self._world.size
        # A test that asks for more ranks than there are is set up everywhere, and skipped there.
        return min(int(callspec.params.get("ranks", self._world.size)), self._world.size)

    def run(self, session: pytest.Session) -> bool:
        """The session's tests: first the ordinary ones, then every arm in its passes."""
        items = session.items
        marks = self._state.marks if self._state.measures else {}
        arms = [item for item in items if item.nodeid in marks]
        names = {item.nodeid for item in arms}
        others = [item for item in items if item.nodeid not in names]
        active = [i for i, item in enumerate(others) if self.is_active(item)]
        for i, item in enumerate(others):
            following = next((others[k] for k in active if k > i), session if arms else None)
            self._run_ordinary(item, following)  # type: ignore[arg-type]
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        if arms:
            self._run_passes(session, arms)
        return True

    def _run_ordinary(self, item: pytest.Item, following: pytest.Item | None) -> None:
        if not self._state.together:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            return
        reports = self._run_turn(item, following).reports
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _run_passes(self, session: pytest.Session, arms: Sequence[pytest.Item]) -> None:
        marks = {item.nodeid: self._state.marks[item.nodeid] for item in arms}
        self._state.ledger = Ledger.of(
            {item.nodeid: item for item in arms},
            marks,
            references=reference_arms(marks),
            passes=self._options.passes,
            seed=self._options.seed,
            usable_cpus=self._state.usable_cpus,
            load=self._state.load,
            world_size=1 if self._world is None else self._world.size,
        )
        reporter = self._state.config.pluginmanager.get_plugin("terminalreporter")
        Passes(
            session,
            self._state.ledger,
            self._state.benchmarks,
            self._run_turn,
            self.is_active,
            Progress(reporter, self._options.passes),
            self._within_time,
        ).run()

    def _within_time(self, spent: float, next_pass: float) -> bool:
        """Whether there is time for another pass; rank 0 decides."""
        limit = self._options.max_time
        if limit is None:
            return True
        fits = spent + next_pass <= limit
        return fits if self._world is None else bool(self._world.bcast(fits))

    def _run_turn(
        self, item: pytest.Item, following: pytest.Item | pytest.Collector | None
    ) -> Outcome:
        """Run a test once, its reports kept; on several ranks with one outcome for all."""
        if self._world is None:
            return outcome_of(self._run_held(item, following))
        with self._world.watch(item.nodeid, self._options.timeout):
            reports = self._run_held(item, following) if self.is_active(item) else []
            timeout = self._options.timeout
            grace = min(GRACE_SECONDS, timeout / 4)
            return shared_outcome(self._world, item, reports, grace=grace, timeout=timeout)

    def _run_held(
        self, item: pytest.Item, following: pytest.Item | pytest.Collector | None
    ) -> list[pytest.TestReport]:
        self._state.holding = []
        failed_before = item.session.testsfailed
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed > failed_before:
                fail_for_subtests(self._state.holding)
            return self._state.holding
        finally:
            self._state.holding = None
