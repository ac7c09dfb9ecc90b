"""How numbers, names and reasons are worded, in the terminal and in pictures alike.

Pure text: `table` and `plots` share it so that one arm has one name and one number everywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from statistics import median

from pytest_speedup.analysis import ArmResult, GroupResult
from pytest_speedup.estimate import Estimate
from pytest_speedup.fields import visible
from pytest_speedup.records import Arm, Run

TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
ENERGY_UNITS = (("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6))
RATE_UNITS = (("T ", 1e12), ("G ", 1e9), ("M ", 1e6), ("", 1.0))

Unit = tuple[str, float]
"""A unit's name, and its size in seconds or in items per second."""


def time_unit(seconds: Iterable[float]) -> Unit:
    """The unit in which the middle one of some times has at least one digit before the point."""
    middle = median(list(seconds) or [1.0])
    return next((unit for unit in TIME_UNITS if middle >= unit[1]), TIME_UNITS[-1])


def energy_unit(joules: Iterable[float]) -> Unit:
    """The unit in which the middle one of some energies has at least one digit before the point."""
    middle = median(list(joules) or [1.0])
    return next((unit for unit in ENERGY_UNITS if middle >= unit[1]), ENERGY_UNITS[-1])


def rate_unit(rates: Iterable[float]) -> Unit:
    """A decimal prefix (with its space) that keeps the middle rate under a million."""
    middle = median(list(rates) or [1.0])
    return next((unit for unit in RATE_UNITS if middle >= unit[1]), RATE_UNITS[-1])


def rate_name(prefix: str, unit: str) -> str:
    """`M images/s`; a unit in capitals is a symbol, which its prefix joins: `GB/s`."""
    return f"{prefix.strip() if unit.isupper() else prefix}{visible(unit)}/s"


def rate(value: float, unit: str) -> str:
    """A rate in a sentence: `141 GFLOP/s`."""
    prefix, size = rate_unit([value])
    return f"{number(value / size, places([value / size]))} {rate_name(prefix, unit)}"


def places(values: Iterable[float], most: int = 3) -> int:
    """Decimal places that show three digits of the smallest of some positive values."""
    smallest = min((v for v in values if v > 0), default=1.0)
    return min(most, max(0, 2 - math.floor(math.log10(smallest))))


def number(value: float, decimals: int) -> str:
    """`value` with thousands set apart; two digits of its own where `decimals` would hide it."""
    if value != 0 and abs(value) < 10.0**-decimals:
        return f"{value:.2g}"
    return f"{value:,.{decimals}f}"


def bracketed(estimate: Estimate, decimals: int = 2, scale: float = 1.0, name: str = "") -> str:
    """`3.41 [3.30, 3.52]`; with a unit's name `312 ms [308, 320]`."""
    point = number(estimate.value / scale, decimals) + (f" {name}" if name else "")
    if estimate.low is None or estimate.high is None:
        return f"{point} [?]"
    low, high = (number(end / scale, decimals) for end in (estimate.low, estimate.high))
    return f"{point} [{low}, {high}]"


def times(estimate: Estimate) -> str:
    """A speedup beside a bar: `1.59× [1.58, 1.62]`."""
    point, _, interval = bracketed(estimate).partition(" ")
    return f"{point}× {interval}"


def plus_minus(estimate: Estimate, decimals: int = 2, scale: float = 1.0) -> str:
    """`3.41 ±0.11`, rounded up to the interval's farther end, so that ± never promises too much."""
    point = number(estimate.value / scale, decimals)
    if estimate.low is None or estimate.high is None:
        return f"{point} ±?"
    reach = max(estimate.value - estimate.low, estimate.high - estimate.value) / scale
    step = 10.0**-decimals
    # the small allowance keeps 0.11 from becoming 0.12 by a rounding error of the subtraction
    return f"{point} ±{math.ceil(reach / step - 1e-6) * step:,.{decimals}f}"


def fraction(estimate: Estimate) -> str:
    """A share that noise may make negative: `0.12 [0.10, 0.14]`, `−0.01 [−0.02, 0.01]`."""

    def told(value: float) -> str:
        return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")

    if estimate.low is None or estimate.high is None:
        return told(estimate.value)
    return f"{told(estimate.value)} [{told(estimate.low)}, {told(estimate.high)}]"


def duration(estimate: Estimate, unit: Unit | None = None) -> str:
    """A time in a sentence: `412 ms [408, 418]`."""
    name, size = unit or time_unit([estimate.value])
    return bracketed(estimate, places([estimate.value / size]), size, name)


def percent_apart(ratio: Estimate) -> str:
    """A ratio near 1 as a signed difference: `−0.3 % [−1.1, +0.4]`."""

    def signed(value: float) -> str:
        # adding zero makes a rounded −0.0 positive
        return f"{round(100 * (value - 1), 1) + 0.0:+.1f}".replace("-", "−")

    point = f"{signed(ratio.value)} %"
    if ratio.low is None or ratio.high is None:
        return f"{point} [?]"
    return f"{point} [{signed(ratio.low)}, {signed(ratio.high)}]"


def arm_labels(group: GroupResult) -> dict[str, str]:
    """By `fullname`, what an arm is called: its series and its place on the axis.

    Arms that would share a label are called by their test's name instead.
    """
    labels: dict[str, str] = {}
    for series in group.series:
        for result in series.results:
            arm = result.arm
            value = arm.params.get(arm.axis or "")
            place = "" if value is None else f"{arm.axis}={value}"
            # a test that is named after its axis is called `ranks=4`, not `ranks ranks=4`
            name = series.label if not place or series.label != arm.axis else ""
            weak = " (weak)" if arm.scaling == "weak" else ""
            labels[arm.fullname] = visible(f"{name} {place}".strip() + weak)
    for result in group.results:
        labels.setdefault(result.arm.fullname, visible(result.arm.name))
    counts = Counter(labels.values())
    names = {result.arm.fullname: result.arm.name for result in group.results}
    return {
        fullname: label if counts[label] == 1 else visible(names[fullname])
        for fullname, label in labels.items()
    }


def ordered(group: GroupResult) -> list[ArmResult]:
    """A group's arms, first those without an axis, then series by series, each along its axis.

    The order of every view: what is swept is read against what is not.
    """
    placed = [result for series in group.series for result in series.results]
    known = {result.arm.fullname for result in placed}
    placed += [result for result in group.results if result.arm.fullname not in known]
    return sorted(placed, key=lambda result: result.arm.axis is not None)


def workers(arm: Arm) -> str:
    """`4`; `4×2` for 4 workers of 2 threads each; `4*` where the usable CPUs are fewer."""
    each = arm.cpus // arm.workers if arm.workers and arm.cpus % arm.workers == 0 else 1
    return f"{arm.workers}{f'×{each}' if each > 1 else ''}{'*' if arm.oversubscribed else ''}"


def proof(arm: Arm) -> str:
    """How the arm's result was proved: `bitwise`, the largest error, `check`, or `none`."""
    if arm.proof is None:
        return "none"
    if arm.proof.bitwise:
        return "bitwise"
    if arm.proof.check:
        return "check"
    return f"{arm.proof.max_abs_error:.0e}"


def facts(items: Iterable[tuple[str, object]]) -> list[str]:
    """`top1=0.998` for every fact."""
    return [
        visible(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}")
        for key, value in items
    ]


def confidence(estimates: Sequence[Estimate]) -> str:
    """The confidence that the intervals really have: `95 % intervals`."""
    levels = {f"{100 * e.confidence:.3g}" for e in estimates if e.confidence is not None}
    if not levels:
        return "no intervals: too few passes"
    return f"{' to '.join(sorted(levels, key=float)[:: max(1, len(levels) - 1)])} % intervals"


def passes(run: Run) -> str:
    """`5 passes`, or `3 of 5 passes` of a run that ended early."""
    if run.passes_done != run.passes:
        return f"{run.passes_done} of {run.passes} passes"
    return f"{run.passes} pass{'' if run.passes == 1 else 'es'}"


def incomplete(run: Run) -> str | None:
    """The warning that has to stand on every view of a run that ended early."""
    if run.incomplete is None and run.passes_done >= run.passes:
        return None
    return visible(f"INCOMPLETE RUN: {run.incomplete or 'it ended early'} ({passes(run)} done)")


def cpu_model(run: Run) -> str:
    """The processor's name as short as it stays clear, or the machine's architecture."""
    name = str(_ours(run).get("cpu_model") or run.machine.get("machine") or "unknown CPU")
    for noise in ("(R)", "(TM)", "(r)", "(tm)", " CPU", " Processor"):
        name = name.replace(noise, "")
    return visible(" ".join(name.split(" @ ")[0].split()))


def usable_cpus(run: Run) -> int | None:
    """CPUs that the run was allowed to use; None where that was not recorded."""
    count = _ours(run).get("usable_cpus")
    return count if isinstance(count, int) else None


def machine(run: Run) -> str:
    """`AMD EPYC 7763, 4 usable CPUs`."""
    count = usable_cpus(run)
    told = "usable CPUs unknown" if count is None else f"{count} usable CPU{'s' * (count != 1)}"
    ranks = f", {run.world_size} MPI ranks" if run.world_size > 1 else ""
    return f"{cpu_model(run)}, {told}{ranks}"


def date(run: Run) -> str:
    """`2026-03-01 10:05`."""
    return visible(run.datetime.replace("T", " ")[:16])


def run_labels(runs: Sequence[Run]) -> list[str]:
    """What tells several runs apart, as briefly as it does: machine first, then file, then date."""
    fields = [
        [cpu_model(run) for run in runs],
        [f"{usable_cpus(run)} CPUs" for run in runs],
        [visible(str(run.machine.get("node", ""))) for run in runs],
        [visible(PurePath(run.source).stem) for run in runs],
        [date(run) for run in runs],
        [f"run {i + 1}" for i in range(len(runs))],
    ]
    told: list[list[str]] = []
    for field in fields:
        if len(set(field)) > 1 and len(set(zip(*told, strict=True))) < len(runs):
            told.append(field)
    return [", ".join(parts) for parts in zip(*told, strict=True)] if told else [""] * len(runs)


def enumeration(names: Sequence[str], most: int = 8) -> str:
    """Names with commas; of a long list the first ones, and how many more there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"


def by_reason(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """(name, reason) pairs as one line a reason: `a, b: no CUDA device`."""
    groups: dict[str, list[str]] = {}
    for name, reason in pairs:
        groups.setdefault(visible(reason), []).append(name)
    return [f"{enumeration(names)}: {reason}" for reason, names in groups.items()]


def _ours(run: Run) -> dict[str, object]:
    ours = run.machine.get("speedup")
    return dict(ours) if isinstance(ours, dict) else {}
