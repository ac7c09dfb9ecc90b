"""What is said in words around a group's table: its conditions above, its findings below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_speedup import wording
from pytest_speedup.analysis import Analysis, ArmResult, GroupResult, Ranking, SeriesResult
from pytest_speedup.bases import short_name
from pytest_speedup.estimate import Estimate
from pytest_speedup.fields import visible
from pytest_speedup.records import Arm, NotRun, Run

MOST_POINTS = 8
"""Findings of one kind in a line, before "and 12 more"."""
COLD = 10.0
"""A first call is worth a word when it took this many times the later ones, and a second."""


@dataclass(frozen=True)
class View:
    """One group with its arms in order and under their names."""

    run: Run
    group: GroupResult
    rows: tuple[ArmResult, ...]
    labels: Mapping[str, str]
    """By `fullname`, of all groups: a base may stand in another one."""
    times: Mapping[str, Estimate]

    def called(self, arm: Arm) -> str:
        """The arm's name."""
        return self.labels.get(arm.fullname, visible(arm.name))

    def timed(self, arm: Arm) -> str:
        """The arm's name and absolute time."""
        time = self.times.get(arm.fullname)
        return self.called(arm) + (f", {wording.duration(time)}" if time else "")


def views(analysis: Analysis) -> list[View]:
    """Each group of an analysis, ready to be told."""
    labels: dict[str, str] = {}
    times: dict[str, Estimate] = {}
    for group in analysis.groups:
        labels |= wording.arm_labels(group)
        times |= {result.arm.fullname: result.time for result in group.results}
    return [
        View(analysis.run, group, tuple(wording.ordered(group)), labels, times)
        for group in analysis.groups
    ]


def is_base(base: Arm | None, arm: Arm) -> bool:
    """Whether a speedup is an arm's own, told against itself."""
    return base is not None and base.fullname == arm.fullname


def head(view: View) -> Iterator[str]:
    """Machine, each base with its absolute time, noise floor, passes and confidence."""
    yield ", ".join(filter(None, [wording.machine(view.run), wording.date(view.run)]))
    yield from _absolute_bases(view)
    yield from _relative_bases(view)
    if most := peaks(view):
        yield f"of peak: vs {most}"
    if view.group.noise is not None:
        which = f" ({view.called(view.group.noise_arm)})" if view.group.noise_arm else ""
        apart = wording.percent_apart(view.group.noise)
        yield f"noise floor: same arm{which} twice differs by {apart}"
    if view.rows:
        levels = wording.confidence([row.time for row in view.rows])
        yield f"{levels} ({wording.passes(view.run)}), seed {view.run.seed}"


def _absolute_bases(view: View) -> Iterator[str]:
    bases = {r.absolute_base.fullname: r.absolute_base for r in view.rows if r.absolute_base}
    if view.group.serial_base is not None:
        bases = {view.group.serial_base.fullname: view.group.serial_base} | bases
    for base in bases.values():
        yield f"absolute: vs {view.timed(base)}"
    if view.rows and not bases:
        why = next((r.no_absolute for r in view.rows if r.no_absolute), "no serial arm")
        yield f"absolute: none: {visible(why)}"


def _relative_bases(view: View) -> Iterator[str]:
    """Bases in the arm's own series are marked in the table; all others are named here."""
    elsewhere: dict[str, tuple[Arm, list[str]]] = {}
    own = False
    for series in view.group.series:
        members = {r.arm.fullname for r in series.results}
        for base in (r.relative_base for r in series.results):
            if base is None:
                continue
            if base.fullname in members:
                own = own or len(members) > 1
            else:
                names = elsewhere.setdefault(base.fullname, (base, []))[1]
                names += [] if series.label in names else [series.label]
    if own:
        yield "relative: vs the arm of the same series that is marked base"
    for base, series_names in elsewhere.values():
        named = wording.enumeration([visible(name) for name in series_names])
        yield f"relative: {named} vs {view.timed(base)}"


def peaks(view: View) -> str | None:
    """What the machine gives, by CPUs or device and unit; of several figures the largest."""
    largest: dict[tuple[int, str, str], float] = {}
    for arm in (row.arm for row in view.rows):
        if arm.peak is not None:
            place = (arm.cpus, arm.unit, arm.device)
            largest[place] = max(arm.peak, largest.get(place, 0.0))
    told = [
        f"{wording.rate(peak, unit)} on "
        + (f"{cpus} CPU{'s' * (cpus != 1)}" if device == "cpu" else visible(device))
        for (cpus, unit, device), peak in sorted(largest.items())
    ]
    return wording.enumeration(told) if told else None


def fastest(view: View) -> str | None:
    """The fastest arm and by how much, or that it is a tie; None where nothing can be ranked."""
    told = _ranked(view, view.group.ranking)
    if told is None or view.group.by_value is None:
        return told
    return f"{told}; of those compared value by value, {_ranked(view, view.group.by_value)}"


def _ranked(view: View, ranking: Ranking) -> str | None:
    first, second, lead = ranking.fastest, ranking.runner_up, ranking.lead
    if first is None:
        return None
    if second is None or lead is None:
        return f"no ranking: {view.called(first.arm)} has no other arm to be compared with"
    names = view.called(first.arm), view.called(second.arm)
    by = wording.bracketed(lead)
    if by.startswith("1.00"):  # too little for two decimals, and not nothing
        by = wording.bracketed(lead, decimals=4)
    other = ", a device ratio" if first.arm.device != second.arm.device else ""
    if ranking.tie is None:
        return (
            f"fastest so far: {names[0]}, {by} times as fast as {names[1]}; too few passes to tell"
        )
    if ranking.tie:
        level = [view.called(result.arm) for result in ranking.level]
        others = wording.enumeration(level[:-1])
        tied = f"{others} and {level[-1]}"
        return f"tie: {tied} ({by} times as fast as the next is no difference here)"
    proved = "fastest" if first.arm.proof is None else "fastest verified"
    return f"{proved}: {names[0]}, {by} times as fast as {names[1]}{other}"


def findings(view: View) -> Iterator[str]:
    """Device ratios, fits, facts, lost bases and tests without a time, each kind in a line."""
    ratios = [ratio for row in view.rows for ratio in _device_ratio(view, row)]
    if ratios:
        yield f"device ratio, not a speedup: {_several(ratios)}"
    fits = [fit for series in view.group.series for fit in _fit(series)]
    if fits:
        yield f"Amdahl's fit: serial fraction of {_several(fits)}"
    fractions = [text for series in view.group.series for text in _karp_flatt(series)]
    if fractions:
        yield f"Karp-Flatt fraction of {_several(fractions)}"
    designs = [
        f"{view.called(row.arm)} {', '.join(wording.facts(row.arm.design.items()))}"
        for row in view.rows
        if row.arm.design
    ]
    if designs:
        yield f"by design, not measured: {_several(designs)}"
    told = [text for row in view.rows for text in _facts(view, row)]
    if told:
        yield f"apart from the times: {_several(told)}"
    for reason in wording.by_reason((view.called(row.arm), why) for row, why in _lost(view.rows)):
        yield f"no relative speedup: {reason}"
    mismatches = ((view.called(r.arm), r.no_efficiency) for r in view.rows if r.no_efficiency)
    for reason in wording.by_reason(mismatches):
        yield f"no efficiency: {reason}"
    if any(row.absolute for row in view.rows):
        for reason in wording.by_reason(
            (view.called(row.arm), row.no_absolute) for row in view.rows if row.no_absolute
        ):
            yield f"no absolute speedup: {reason}"
    yield from not_run(view.group.not_run)


def not_run(tests: Sequence[NotRun]) -> Iterator[str]:
    """Tests without a time, one line a reason."""
    for reason in wording.by_reason(
        (visible(short_name(test.fullname)), f"{test.kind}, {test.reason}") for test in tests
    ):
        yield f"not run: {reason}"


def _lost(rows: Sequence[ArmResult]) -> Iterator[tuple[ArmResult, str]]:
    """Arms that should have a relative base and have none: those that name one or scale."""
    for row in rows:
        number = isinstance(row.arm.params.get(row.arm.axis or ""), (int, float))
        if row.no_relative is not None and (row.arm.base is not None or number):
            yield row, row.no_relative


def _device_ratio(view: View, row: ArmResult) -> Iterator[str]:
    if row.device_ratio and row.absolute is not None and row.absolute_base is not None:
        base = view.called(row.absolute_base)
        yield f"{view.called(row.arm)} {wording.bracketed(row.absolute)} times {base}"


def _fit(series: SeriesResult) -> Iterator[str]:
    if series.serial_fraction is not None:
        yield f"{visible(series.label)} {wording.fraction(series.serial_fraction)}"


def _karp_flatt(series: SeriesResult) -> Iterator[str]:
    points = [
        f"{wording.fraction(row.karp_flatt)} at {row.arm.workers}"
        for row in series.results
        if row.karp_flatt is not None
    ]
    if points:
        yield f"{visible(series.label)} {', '.join(points)}"


def _facts(view: View, row: ArmResult) -> Iterator[str]:
    told = wording.facts(row.arm.facts.items())
    if row.arm.proof is not None and row.arm.proof.check:
        error = row.arm.proof.max_abs_error
        told += [] if error is None else [f"largest error {error:.0e}"]
        told += wording.facts(row.arm.proof.facts.items())
    cold = row.arm.first_call
    if cold is not None and cold > max(1.0, COLD * row.time.value):
        told.append(f"first call {cold:.3g} s")
    if told:
        yield f"{view.called(row.arm)} {', '.join(told)}"


def _several(texts: Sequence[str]) -> str:
    more = len(texts) - MOST_POINTS
    return "; ".join([*texts[:MOST_POINTS], *([f"and {more:,} more"] if more > 0 else [])])
