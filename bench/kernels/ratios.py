"""The arms of a saved run by case, implementation and threads, and means of their speedups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.kernels.cases import CASES, TITLES
from pytest_speedup.columns import Column, lay_out
from pytest_speedup.estimate import Estimate, block_medians, ratio
from pytest_speedup.records import Arm, Run
from pytest_speedup.wording import bracketed

Key = tuple[str, str, int]
"""Case or network, implementation, threads."""


def arms_of(run: Run) -> Mapping[Key, Arm]:
    """The arms of these benchmarks on the CPU; one of more threads than CPUs is left out."""
    found = {}
    for arm in run.arms:
        name = arm.params.get("case") or arm.params.get("network")
        if name in TITLES and "device" not in arm.params and not arm.oversubscribed:
            found[str(name), arm.strategy, arm.cpus] = arm
    return found


def mean_speedup(pairs: Sequence[tuple[Arm, Arm]]) -> Estimate | None:
    """The geometric mean over (arm, base) pairs of their speedups, formed within each pass."""
    if not pairs:
        return None
    logarithms = [
        [
            math.log(b / a * (arm.work or 1.0) / (base.work or 1.0))
            for a, b in zip(block_medians(arm.blocks), block_medians(base.blocks), strict=False)
        ]
        for arm, base in pairs
    ]
    means = [math.exp(math.fsum(one) / len(one)) for one in zip(*logarithms, strict=False)]
    return ratio([[mean] for mean in means], [[1.0]] * len(means))


def against_loops(run: Run) -> list[str]:
    """What else the run tells: geometric means over the shapes, against loops and one thread."""
    arms = arms_of(run)
    rows = []
    for family in dict.fromkeys(case.family for case in CASES.values()):
        own = {key: arm for key, arm in arms.items() if family_of(key[0]) == family}
        for who, threads in sorted({key[1:] for key in own} - {("loops", 1)}):
            loops = _gain(own, (who, threads), ("loops", 1))
            alone = _gain(own, (who, threads), (who, 1)) if threads > 1 else None
            if loops or alone:
                gains = [told(gain) if gain else "–" for gain in (loops, alone)]
                rows.append((f"{family} {who}{on(threads)}", *gains))
    if not rows:
        return []
    heads = ("implementation", "times loops", "times one thread")
    columns = [
        Column(head, cells, right=False)
        for head, cells in zip(heads, zip(*rows, strict=True), strict=True)
    ]
    return lay_out(columns, [column.natural for column in columns])


def _gain(arms: Mapping[Key, Arm], arm: tuple[str, int], base: tuple[str, int]) -> Estimate | None:
    pairs = [
        (arms[key], arms[key[0], base[0], base[1]])
        for key in arms
        if key[1:] == arm and (key[0], *base) in arms
    ]
    return mean_speedup(pairs)


def family_of(name: str) -> str:
    """A case's family; a whole network is one of its own."""
    return CASES[name].family if name in CASES else name


def on(threads: int) -> str:
    """`, 2 threads`."""
    return f", {threads} thread{'s' * (threads != 1)}"


def told(gain: Estimate) -> str:
    """Digits enough to see on which side of a target it lies."""
    return bracketed(gain, decimals=3)
