"""What a run says: every arm's time and speedups, each with its base and its interval.

Joins the records of a run with `bases`, `series`, `estimate` and `scaling`; `table` and `plots`
only draw what is computed here, so that no two views of a run can disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_speedup import bases, scaling, series
from pytest_speedup.estimate import Estimate, block_medians, differs, monotone, ratio, time
from pytest_speedup.records import Arm, NotRun, Run


@dataclass(frozen=True)
class ArmResult:
    """One arm, estimated."""

    arm: Arm
    time: Estimate
    """Seconds per call."""
    throughput: Estimate | None
    """Items per second; None where the arm states no work."""
    share: Estimate | None
    """Throughput / what the machine gives; None where the arm does not state that."""
    relative: Estimate | None
    """Speedup against `relative_base`; None where there is none."""
    relative_base: Arm | None
    no_relative: str | None
    """Why there is no relative speedup, where there is none."""
    absolute: Estimate | None
    absolute_base: Arm | None
    no_absolute: str | None
    efficiency: Estimate | None
    """Relative speedup / workers; None when oversubscribed or where the axis counts no workers."""
    no_efficiency: str | None
    """What is wrong with the stated work, where that alone keeps it from being told."""
    karp_flatt: Estimate | None
    """Experimentally determined serial fraction; None for one worker or when oversubscribed."""
    device_ratio: bool = False
    """Whether `absolute` compares two kinds of device: a ratio, not a parallel speedup."""


@dataclass(frozen=True)
class SeriesResult:
    """The arms that differ only along the axis, in the axis' order."""

    label: str
    """Strategy, and the parameters that tell it from its siblings: "grid batch_size=8"."""
    axis: str | None
    counts_workers: bool
    results: tuple[ArmResult, ...]
    serial_fraction: Estimate | None
    """Amdahl's fit over three or more points that are not oversubscribed."""


@dataclass(frozen=True)
class Ranking:
    """Who is fastest, as far as the intervals and the noise floor support it."""

    fastest: ArmResult | None
    runner_up: ArmResult | None
    lead: Estimate | None
    """Runner-up's time per item / fastest's."""
    tie: bool | None
    """Whether any arm is level with the fastest: the lead's interval holds 1, or the lead lies
    inside the noise floor. None where there is no runner-up, or too few passes to tell."""
    level: tuple[ArmResult, ...]
    """All arms that are no slower than the fastest by more than that, itself included."""


@dataclass(frozen=True)
class GroupResult:
    """Arms that answer one question."""

    name: str
    results: tuple[ArmResult, ...]
    """In collection order."""
    series: tuple[SeriesResult, ...]
    serial_base: Arm | None
    """Base of the absolute speedups: fastest of those that may be one; None where there is none."""
    noise: Estimate | None
    """Ratio of the base arm's second turn to its first, within passes."""
    noise_arm: Arm | None
    ranking: Ranking
    by_value: Ranking | None
    """Among the arms compared value by value; None unless a check of its own let in a faster one.

    bfloat16 that passes such a check is fast, but does not compute the same values.
    """
    not_run: tuple[NotRun, ...]


@dataclass(frozen=True)
class Analysis:
    """A run, estimated."""

    run: Run
    groups: tuple[GroupResult, ...]
    not_run: tuple[NotRun, ...]
    """Those whose group is unknown."""


def analyse(run: Run) -> Analysis:
    """Estimate every arm of a run and compare it with its bases."""
    members: dict[str, list[Arm]] = {}
    for arm in run.arms:
        members.setdefault(arm.group, []).append(arm)
    for missing in run.not_run:
        if missing.group is not None:
            members.setdefault(missing.group, [])
    arms = {arm.fullname: arm for arm in run.arms}
    kinds = {missing.fullname: missing.kind for missing in run.not_run}
    groups = tuple(
        _group(
            name,
            group,
            {arm.fullname: bases.relative_base(arm, arms, kinds) for arm in group},
            tuple(missing for missing in run.not_run if missing.group == name),
        )
        for name, group in members.items()
    )
    return Analysis(run, groups, tuple(each for each in run.not_run if each.group is None))


def _group(
    name: str,
    arms: Sequence[Arm],
    relative_bases: Mapping[str, Arm | str],
    not_run: tuple[NotRun, ...],
) -> GroupResult:
    times = {arm.fullname: time(arm.blocks) for arm in arms}
    per_item = {arm.fullname: times[arm.fullname].value / (arm.work or 1.0) for arm in arms}
    serial_bases = bases.serial_bases(arms, per_item)
    results = {
        arm.fullname: _arm_result(
            arm,
            times[arm.fullname],
            relative_bases[arm.fullname],
            bases.absolute_base(arm, serial_bases),
        )
        for arm in arms
    }
    noise_arm = max((arm for arm in arms if arm.repeat), key=_repeats, default=None)
    noise = _noise(noise_arm) if noise_arm else None
    usual = Counter(bases.currency(arm) for arm in arms).most_common(1)
    comparable = [arm for arm in arms if bases.currency(arm) == usual[0][0]]
    comparable.sort(key=lambda arm: per_item[arm.fullname])
    ranking = _ranking(comparable, results, noise)
    same = [arm for arm in comparable if arm.proof is None or not arm.proof.check]
    by_check = ranking.fastest is not None and ranking.fastest.arm not in same
    return GroupResult(
        name=name,
        results=tuple(results.values()),
        series=tuple(
            _series(label, [results[arm.fullname] for arm in line])
            for label, line in series.split(arms)
        ),
        serial_base=serial_bases.get(usual[0][0]) if usual else None,
        noise=noise,
        noise_arm=noise_arm,
        ranking=ranking,
        by_value=_ranking(same, results, noise) if by_check and same else None,
        not_run=not_run,
    )


def _repeats(arm: Arm) -> int:
    return sum(block is not None for block in arm.repeat or ())


def _noise(arm: Arm) -> Estimate | None:
    """The ratio of an arm's second turns to its first ones, over the passes that have both."""
    pairs = [(r, b) for r, b in zip(arm.repeat or (), arm.blocks, strict=False) if r is not None]
    return ratio([r for r, _ in pairs], [b for _, b in pairs]) if pairs else None


def _ranking(
    ranked: Sequence[Arm], results: Mapping[str, ArmResult], noise: Estimate | None
) -> Ranking:
    """The fastest of some arms that are sorted by time per item, and who is level with it.

    Where any arm is level with it there is a tie, though the runner-up, measured more closely, is
    not: the first of the level ones is then the runner-up.
    """
    if len(ranked) < 2:
        alone = results[ranked[0].fullname] if ranked else None
        return Ranking(alone, None, None, None, ())
    first, second, *rest = ranked
    if bases.speedup(first, second).value < 1:  # taken within passes, and so the fairer judge
        first, second = second, first
    lead = bases.speedup(first, second)
    tie: bool | None = None
    level: list[Arm] = []
    if lead.low is not None:
        level = [a for a in (second, *rest) if not differs(bases.speedup(first, a), noise)]
        tie = bool(level)
        if level and level[0] is not second:
            second = level[0]
            lead = bases.speedup(first, second)
    return Ranking(
        results[first.fullname],
        results[second.fullname],
        lead,
        tie,
        tuple(results[arm.fullname] for arm in (first, *level)),
    )


def _arm_result(arm: Arm, seconds: Estimate, relative: Arm | str, absolute: Arm | str) -> ArmResult:
    """One arm's result against its two bases; a text in place of a base says why there is none."""
    work, peak = arm.work, arm.peak
    throughput = None if work is None else monotone(lambda t: work / t, seconds)
    gain = None if isinstance(relative, str) else bases.speedup(arm, relative)
    efficiency = karp_flatt = None
    if gain is not None and isinstance(relative, Arm) and _scales(arm, relative):
        efficiency = monotone(lambda s: scaling.efficiency(s, arm.workers), gain)
        if arm.workers > 1 and arm.scaling == "strong":
            karp_flatt = monotone(lambda s: scaling.karp_flatt(s, arm.workers), gain)
    return ArmResult(
        arm=arm,
        time=seconds,
        throughput=throughput,
        share=monotone(lambda r: r / peak, throughput) if throughput and peak else None,
        relative=gain,
        relative_base=None if isinstance(relative, str) else relative,
        no_relative=relative if isinstance(relative, str) else None,
        absolute=None if isinstance(absolute, str) else bases.speedup(arm, absolute),
        absolute_base=None if isinstance(absolute, str) else absolute,
        no_absolute=absolute if isinstance(absolute, str) else None,
        efficiency=efficiency,
        no_efficiency=bases.scaling_mismatch(arm, relative) if isinstance(relative, Arm) else None,
        karp_flatt=karp_flatt,
        device_ratio=isinstance(absolute, Arm) and not bases.same_device(arm, absolute),
    )


def _scales(arm: Arm, base: Arm) -> bool:
    """Whether going from `base` to `arm` changed nothing but the number of workers, on free CPUs.

    Without the last condition two processes of two threads each would be told against one CPU.
    """
    return (
        series.has_workers(arm)
        and not arm.oversubscribed
        and not base.oversubscribed
        and base.workers == 1
        and arm.cpus <= base.cpus * arm.workers
        and bases.scaling_mismatch(arm, base) is None
    )


def _series(label: str, results: Sequence[ArmResult]) -> SeriesResult:
    arms = [result.arm for result in results]
    return SeriesResult(
        label=label,
        axis=arms[0].axis,
        counts_workers=all(series.counts_workers(arm) for arm in arms),
        results=tuple(results),
        serial_fraction=_serial_fraction(arms),
    )


def _serial_fraction(arms: Sequence[Arm]) -> Estimate | None:
    """Amdahl's fit over the points that scale from the series' own arm with one worker."""
    base = next((arm for arm in arms if series.has_workers(arm) and arm.workers == 1), None)
    if base is None or base.scaling != "strong":
        return None
    return scaling.amdahl_fit(
        {
            arm.workers: [seconds / (arm.work or 1.0) for seconds in block_medians(arm.blocks)]
            for arm in arms
            if _scales(arm, base) and bases.currency(arm) == bases.currency(base)
        }
    )
