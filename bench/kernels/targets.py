"""Is what was aimed at reached? `python -m bench.kernels.targets RUN.json`, from a saved run.

A target is a speed relative to torch's, on the same shape and the same number of threads: its
geometric mean over the shapes of a family, and for some the least that any shape may have. Ratios
are taken within a pass; the mean is formed in each pass, and its interval is over the passes. The
point decides; a question mark says that the interval leaves it open, and more passes are wanted. An
arm that failed misses its target.

Ends with exit code 1 where a target is missed, 4 where the file is no run of these benchmarks.
Needs no torch, as all that reads a saved run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.kernels.cases import CASES, NETWORK, TITLES, Case
from bench.kernels.ratios import (
    Key,
    against_loops,
    arms_of,
    family_of,
    mean_speedup,
    on,
    told,
)
from bench.saved_run import MISSED, USAGE, run_of
from pytest_speedup.bases import short_name, speedup
from pytest_speedup.columns import Column, lay_out
from pytest_speedup.estimate import Estimate
from pytest_speedup.records import Arm, NotRun, Run
from pytest_speedup.wording import incomplete

UNKNOWN, LOST = "not measured", "MISSED"


def always(case: Case) -> bool:
    """Every case of the family."""
    return bool(case)


def wide_3x3(case: Case) -> bool:
    """3x3 convolutions of stride 1 with 64 channels and more, in and out."""
    filters, channels, *kernel = case.shapes["weight"]
    return kernel == [3, 3] and case.arguments["stride"] == 1 and min(filters, channels) >= 64


@dataclass(frozen=True)
class Target:
    """How many times as fast as torch an implementation is to be."""

    family: str
    implementation: str
    mean: float
    each: float | None = None
    """The least that a single shape may have."""
    where: Callable[[Case], bool] = always


def _pair(family: str, mean: float, each: float | None = None) -> tuple[Target, Target]:
    return Target(family, "numba", mean, each), Target(family, "numba_threads", mean, each)


TARGETS = (
    *_pair("conv2d", 1.0, 0.7),
    Target("conv2d", "winograd", 1.2, where=wide_3x3),
    *_pair("conv2d_grad_input", 0.9),
    *_pair("conv2d_grad_weight", 0.9),
    *_pair("linear", 1.0, 0.8),
    *_pair("max_pool2d", 1.0, 0.8),
    *_pair("avg_pool2d", 1.0, 0.8),
    *_pair("adaptive_avg_pool2d", 1.0, 0.8),
    *_pair("relu", 1.0, 0.8),
    *_pair("softmax", 1.0, 0.8),
    *_pair("log_softmax", 1.0, 0.8),
    *_pair("cross_entropy", 1.0, 0.8),
    *_pair("batch_norm_inference", 1.0, 0.8),
    *_pair("batch_norm_training", 1.0, 0.8),
    Target(NETWORK, "numba_threads", 1.0),
)


@dataclass(frozen=True)
class Outcome:
    """What a run says of one target, on one number of threads."""

    target: Target
    threads: int | None
    """None where nothing was measured."""
    mean: Estimate | None
    worst: tuple[Estimate, str] | None
    """The smallest ratio, and on what shape."""
    shapes: int
    failed: tuple[str, ...]
    """Arms that have no time, because they are wrong or were interrupted."""

    @property
    def verdict(self) -> str:
        """Whether it is reached; with a question mark where the intervals leave it open."""
        if self.failed:
            return LOST
        if self.mean is None or self.worst is None:
            return UNKNOWN
        slowest, least = self.worst[0], self.target.each or 0.0
        at_point, at_low, at_high = (
            None not in ends and ends[0] >= self.target.mean and ends[1] >= least
            for ends in (
                (self.mean.value, slowest.value),
                (self.mean.low, slowest.low),
                (self.mean.high, slowest.high),
            )
        )
        told = self.mean.low is not None and slowest.low is not None
        sure = told and at_low == at_high
        return ("reached" if at_point else LOST) + ("" if sure else "?")


def outcomes(run: Run, targets: Iterable[Target] = TARGETS) -> list[Outcome]:
    """Every target on every number of threads that does not oversubscribe the CPUs."""
    arms = arms_of(run)
    found = []
    for target in targets:
        subjects = [name for name in _subjects(arms, run) if _belongs(name, target)]
        failed = [each for each in run.not_run if _has_failed(each, subjects, target)]
        threads = sorted(
            {n for name, who, n in arms if name in subjects and who == target.implementation}
        )
        found += [
            _outcome(target, n, arms, subjects, failed if n == threads[-1] else ()) for n in threads
        ] or [
            Outcome(
                target, None, None, None, 0, tuple(short_name(each.fullname) for each in failed)
            )
        ]
    return found


def _outcome(
    target: Target, threads: int, arms: Mapping[Key, Arm], subjects: Sequence[str],
    failed: Sequence[NotRun],
) -> Outcome:  # fmt: skip
    pairs = {
        name: (arms[name, target.implementation, threads], arms[name, "torch", threads])
        for name in subjects
        if (name, target.implementation, threads) in arms and (name, "torch", threads) in arms
    }
    ratios = [(speedup(ours, torchs), ours.group) for ours, torchs in pairs.values()]
    return Outcome(
        target,
        threads,
        mean_speedup(list(pairs.values())),
        min(ratios, key=lambda each: each[0].value, default=None),
        len(pairs),
        tuple(short_name(each.fullname) for each in failed),
    )


def _subjects(arms: Mapping[Key, Arm], run: Run) -> list[str]:
    """Cases and networks that the run was about, though all their arms may have failed."""
    groups = {arm.group for arm in arms.values()} | {each.group for each in run.not_run}
    return [name for name, title in TITLES.items() if title in groups]


def _belongs(name: str, target: Target) -> bool:
    return family_of(name) == target.family and (name not in CASES or target.where(CASES[name]))


def _has_failed(missing: NotRun, subjects: Sequence[str], target: Target) -> bool:
    """Whether an arm of the target, or torch's beside it, was collected and came to grief."""
    titles = {TITLES[name] for name in subjects}
    strategy = short_name(missing.fullname).partition("[")[0].removeprefix("test_")
    ours = missing.group in titles and strategy in (target.implementation, "torch")
    return ours and missing.kind != "skipped"


def table(found: Sequence[Outcome]) -> list[str]:
    """A line for each outcome, and one for all that was not measured."""
    known = [each for each in found if each.verdict != UNKNOWN]
    columns = [
        Column("implementation / torch", tuple(map(_called, known)), right=False),
        Column("shapes", tuple(str(each.shapes or "–") for each in known)),
        Column("wanted", tuple(map(_wanted, known)), right=False),
        Column("reached", tuple(told(o.mean) if o.mean else "–" for o in known), right=False),
        Column("", tuple(each.verdict for each in known), right=False),
        Column("slowest shape", tuple(map(_worst, known)), right=False),
    ]
    left = [_called(each) for each in found if each.verdict == UNKNOWN]
    return [
        *lay_out(columns, [column.natural for column in columns]),
        *([f"{UNKNOWN}: {', '.join(left)}"] if left else []),
    ]


def _called(outcome: Outcome) -> str:
    target = outcome.target
    chosen = "" if target.where is always else " (3x3, 64 channels and more)"
    threads = "" if outcome.threads is None else on(outcome.threads)
    return f"{target.family}{chosen} {target.implementation}{threads}"


def _wanted(outcome: Outcome) -> str:
    each = outcome.target.each
    return f"{outcome.target.mean:.1f}" + ("" if each is None else f", each {each:.1f}")


def _worst(outcome: Outcome) -> str:
    if outcome.failed:
        return f"no time: {', '.join(outcome.failed)}"
    return "–" if outcome.worst is None else f"{told(outcome.worst[0])} {outcome.worst[1]}"


def main(arguments: Sequence[str]) -> int:
    """Print the targets of a saved run; the exit code is 0, 1 or 4."""
    say = sys.stdout.write
    run = run_of("bench.kernels.targets", arguments)
    if run is None:
        return USAGE
    found = outcomes(run)
    if all(each.verdict == UNKNOWN for each in found):
        sys.stderr.write(
            f"targets: {arguments[0]} has no arm of bench/kernels beside torch's; save one with "
            f"pytest bench/kernels --benchmark-only --benchmark-json=run.json\n"
        )
        return USAGE
    if warning := incomplete(run):
        say(f"{warning}\n\n")
    say("\n".join([*table(found), "", *against_loops(run)]) + "\n")
    return MISSED if any(each.verdict.startswith(LOST) for each in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
