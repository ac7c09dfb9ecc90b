"""How a test ended, on this rank and on all: one failed rank fails the test on every one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_speedup.collective import World


@dataclass(frozen=True)
class Ended:
    """Why a test has no time."""

    kind: str
    """"failed" or "skipped"."""
    reason: str


@dataclass(frozen=True)
class Outcome:
    """One run of one test."""

    reports: list[pytest.TestReport]
    ended: Ended | None
    """None where the test passed."""


def outcome_of(reports: list[pytest.TestReport]) -> Outcome:
    """The outcome on one rank, by its reports: a failure before a skip."""
    for kind in ("failed", "skipped"):
        for report in reports:
            if report.outcome == kind:
                return Outcome(reports, Ended(kind, " ".join(_reasons(report))[:300]))
    if any(hasattr(report, "wasxfail") for report in reports):
        return Outcome(reports, Ended("failed", "passed although it was expected to fail"))
    return Outcome(reports, None)


def shared_outcome(
    world: World,
    item: pytest.Item,
    reports: list[pytest.TestReport],
    *,
    grace: float,
    timeout: float,
) -> Outcome:
    """The outcome over all ranks; ranks that sat the test out bring no reports.

    Ends the world where a rank failed and others do not come within `grace` seconds: they wait in
    a collective for it and would wait for ever.
    """
    mine = outcome_of(reports)
    failed = mine.ended is not None and mine.ended.kind == "failed"
    failures = world.settle(
        _failure_text(reports) if failed else None, test=item.nodeid, grace=grace, timeout=timeout
    )
    everyone: list[Ended | None] = world.agree(mine.ended, doing=item.nodeid, timeout=timeout)
    if failures and not failed:
        text = "\n".join(
            f"on rank {rank} of {world.size}:\n{failure}" for rank, failure in failures.items()
        )
        return Outcome([*_failed(item, reports, text)], _first(everyone, "failed"))
    return Outcome(reports, _first(everyone, "failed") or _first(everyone, "skipped"))


def fail_for_subtests(reports: Sequence[pytest.TestReport]) -> None:
    """Fail a test whose subtests failed: these are reported on their own, and it as passed."""
    for report in reports:
        if report.when == "call" and report.passed:
            report.outcome, report.longrepr = "failed", "contains failed subtests"


def _first(everyone: Sequence[Ended | None], kind: str) -> Ended | None:
    """The first rank's end of this kind; of failures one that is not the echo of another rank's."""
    found = [(rank, e) for rank, e in enumerate(everyone) if e is not None and e.kind == kind]
    if kind == "skipped":
        return found[0][1] if found else None
    found.sort(key=lambda pair: "RankFailedError" in pair[1].reason)
    return Ended(kind, f"rank {found[0][0]}: {found[0][1].reason}") if found else None


def _failed(
    item: pytest.Item, reports: Sequence[pytest.TestReport], text: str
) -> Iterator[pytest.TestReport]:
    """The reports with the call's outcome turned into the failure of another rank."""
    done = False
    for report in reports:
        if report.when == "call":
            report.outcome, report.longrepr, done = "failed", text, True
        yield report
    if not done:
        yield pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=text,
            when="call",
        )


def _failure_text(reports: Sequence[pytest.TestReport]) -> str:
    return "\n".join(report.longreprtext for report in reports if report.failed)


def _reasons(report: pytest.TestReport) -> Iterator[str]:
    if hasattr(report, "wasxfail"):
        yield f"expected to fail: {report.wasxfail}"
    elif isinstance(report.longrepr, tuple):
        yield str(report.longrepr[2]).removeprefix("Skipped: ")
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash is not None else report.longreprtext
        lines = [line for line in text.strip().splitlines() if line.strip()]
        yield lines[0].removeprefix("pytest_speedup.proof.") if lines else "no message"
