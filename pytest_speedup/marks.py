"""The marker `speedup` -> one frozen `Mark` per test, with every mistake found at collection.

A test is an arm when it has the marker or takes the fixture `speedup`. Its strategy is the test
function's name, its group the one of `pytest.mark.benchmark(group=...)`; without one, a test
function is a group of its own, so that things nobody said to be comparable are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest

from pytest_speedup.series import BATCH_AXES

WORKER_PARAMS = ("threads", "processes", "ranks", "workers")
"""Parameters whose product is the number of CPUs that an arm asks for."""


@dataclass(frozen=True)
class Mark:
    """What a test says of itself before it runs."""

    strategy: str
    group: str
    axis: str | None
    base: str | None
    """The node id of the relative base, once `resolve_bases` has looked it up."""
    scaling: str
    serial: bool
    params: Mapping[str, object]
    test: str = ""
    """The test's node id without its parameters: two files of one group may name a test alike."""

    @property
    def counts_workers(self) -> bool:
        """Whether the axis is a number of workers: efficiency means something."""
        return self.axis is not None and self.axis not in BATCH_AXES and _is_count(self.value)

    @property
    def value(self) -> object:
        """Where on its axis the arm stands; None without an axis."""
        return None if self.axis is None else self.params[self.axis]

    @property
    def workers(self) -> int:
        """The axis' value where it counts workers, else 1."""
        value = self.value
        return value if self.counts_workers and isinstance(value, int) else 1

    @property
    def cpus(self) -> int:
        """Workers times the threads of each, from the parameters' names."""
        names = {*WORKER_PARAMS, self.axis} if self.counts_workers else set(WORKER_PARAMS)
        product = 1
        for name in names:
            count = self.params.get(name or "")
            if isinstance(count, int) and _is_count(count):
                product *= count
        return product

    def series(self) -> tuple[object, ...]:
        """What the arms share that differ only along the axis."""
        others = sorted((k, str(v)) for k, v in self.params.items() if k != self.axis)
        return (self.group, self.test, self.strategy, self.axis, self.scaling, tuple(others))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def read_marks(arms: Iterable[pytest.Item]) -> dict[str, Mark]:
    """Every arm's mark by node id; raises pytest.UsageError for the first wrong one."""
    return {item.nodeid: _read_mark(item) for item in arms}


def _read_mark(item: pytest.Item) -> Mark:
    where = item.nodeid
    fixtures = getattr(item, "fixturenames", ())
    if "benchmark" not in fixtures:
        raise pytest.UsageError(
            f"{where}: marked `speedup` but measures nothing; "
            f"let it take the fixture `speedup` or `benchmark`"
        )
    marker = item.get_closest_marker("speedup")
    given = dict(marker.kwargs) if marker is not None else {}
    if marker is not None and marker.args:
        raise pytest.UsageError(
            f"{where}: the marker `speedup` takes keywords only, such as axis='threads'"
        )
    axis = given.pop("axis", None)
    base = given.pop("base", None)
    scaling = given.pop("scaling", "strong")
    serial = given.pop("serial", True)
    if given:
        raise pytest.UsageError(
            f"{where}: the marker `speedup` has no keyword {next(iter(given))!r}; "
            f"allowed: axis, base, scaling, serial"
        )
    if scaling not in ("strong", "weak"):
        raise pytest.UsageError(
            f"{where}: scaling must be 'strong' (fixed total work) or 'weak' (fixed work per "
            f"worker), got {scaling!r}"
        )
    callspec = getattr(item, "callspec", None)
    params: Mapping[str, object] = callspec.params if callspec is not None else {}
    if axis is not None and not (isinstance(axis, str) and axis in params):
        have = ", ".join(params) or "none"
        raise pytest.UsageError(
            f"{where}: the marker names the axis {axis!r}, but the test is not parametrized over "
            f"it; its parameters: {have}"
        )
    function = getattr(item, "originalname", None) or item.name.partition("[")[0]
    test = where if callspec is None else where.removesuffix(f"[{callspec.id}]")
    benchmark = item.get_closest_marker("benchmark")
    group = benchmark.kwargs.get("group") if benchmark is not None else None
    return Mark(
        strategy=function.removeprefix("test_"),
        group=group or test,
        axis=axis,
        base=base,
        scaling=scaling,
        serial=bool(serial),
        params=params,
        test=test,
    )


def resolve_bases(marks: Mapping[str, Mark], *, narrowed: bool) -> dict[str, Mark]:
    """Every mark with the node id of its relative base.

    Without `base` that is the arm of the same series with the axis at 1. A `base` that was named
    has to exist and to be one arm, else pytest.UsageError is raised; where single tests were asked
    for by node id (`narrowed`), a missing one just leaves the arm without a relative speedup.
    """
    by_series: dict[tuple[object, ...], str] = {}
    by_strategy: dict[tuple[str, str], list[str]] = {}
    for nodeid, mark in marks.items():
        by_strategy.setdefault((mark.group, mark.strategy), []).append(nodeid)
        if isinstance(mark.value, int | float) and mark.value == 1 and mark.value is not True:
            by_series[mark.series()] = nodeid
    resolved = {}
    for nodeid, mark in marks.items():
        if mark.base is None:
            base = by_series.get(mark.series()) if mark.axis is not None else None
        else:
            candidates = by_strategy.get((mark.group, mark.base), [])
            base = _choose(nodeid, mark, candidates, marks)
            if base is None and not narrowed:
                known = sorted({strategy for group, strategy in by_strategy if group == mark.group})
                raise pytest.UsageError(
                    f"{nodeid}: its base {mark.base!r} does not exist in the group "
                    f"{mark.group!r}; strategies there: {', '.join(known)}"
                )
        resolved[nodeid] = replace(mark, base=base)
    return resolved


def _choose(
    nodeid: str, mark: Mark, candidates: Sequence[str], marks: Mapping[str, Mark]
) -> str | None:
    """The one candidate that fits best: alone, or alike in the shared parameters, or at 1."""
    if len(candidates) > 1:
        alike = [
            candidate
            for candidate in candidates
            if all(
                marks[candidate].params.get(name, value) == value
                for name, value in mark.params.items()
                if name != mark.axis
            )
        ]
        at_one = [candidate for candidate in alike if marks[candidate].value in (1, None)]
        candidates = at_one or alike
    if len(candidates) > 1:
        raise pytest.UsageError(
            f"{nodeid}: its base {mark.base!r} is ambiguous; it could be "
            f"{' or '.join(candidates[:3])}"
        )
    return candidates[0] if candidates else None


def reference_arms(marks: Mapping[str, Mark]) -> dict[str, str]:
    """Group -> the arm that runs twice in each pass, which gives the group's noise floor.

    The first serial arm without an axis, else the first one at 1, else the first of the group.
    """

    def rank(mark: Mark) -> int:
        if mark.serial and mark.axis is None and mark.cpus == 1:
            return 0
        return 1 if mark.serial and mark.cpus == 1 else 2

    chosen: dict[str, str] = {}
    for nodeid, mark in marks.items():
        if mark.group not in chosen or rank(mark) < rank(marks[chosen[mark.group]]):
            chosen[mark.group] = nodeid
    return chosen
