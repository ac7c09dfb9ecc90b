"""Which arm is compared with which, and why some are not.

An arm's speed is items per second where it states its work, else calls per second. Two arms are
compared where both count the same items; a speedup is the ratio of those speeds within a pass, so
that under weak scaling it is the scaled speedup.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pytest_speedup.estimate import Estimate, ratio
from pytest_speedup.records import Arm
from pytest_speedup.series import is_number


def speedup(arm: Arm, base: Arm) -> Estimate:
    """How many times as fast `arm` is as `base`; ask `incomparable` first.

    ValueError where the two have no pass in common.
    """
    return ratio(base.blocks, arm.blocks, (arm.work or 1.0) / (base.work or 1.0))


def currency(arm: Arm) -> str | None:
    """The items in which the arm's speed is counted; None where it states no work."""
    return arm.unit if arm.work is not None else None


def incomparable(arm: Arm, base: Arm) -> str | None:
    """Why no speedup of `arm` over `base` can be told; None where it can."""
    if currency(arm) != currency(base):
        own, other = (currency(each) or "no work" for each in (arm, base))
        return f"it states {own}, its base {short_name(base.fullname)} {other}"
    if arm.work is None and "weak" in (arm.scaling, base.scaling):
        return "weak scaling needs work=, the items of one call"
    return None


def scaling_mismatch(arm: Arm, base: Arm) -> str | None:
    """Why the stated work contradicts the stated scaling, to 1 %; None where it does not.

    Strong scaling keeps the total work, weak scaling the work of each worker.
    """
    if arm.work is None or base.work is None or arm.axis is None or base.axis != arm.axis:
        return None
    wanted = base.work * (arm.workers / base.workers if arm.scaling == "weak" else 1)
    if math.isclose(arm.work, wanted, rel_tol=0.01):
        return None
    return (
        f"{arm.scaling} scaling from work={base.work:g} wants {wanted:g} {arm.unit} "
        f"of all workers together, not {arm.work:g}"
    )


def same_device(arm: Arm, base: Arm) -> bool:
    """Whether both ran on one kind of device: cuda:0 and cuda:1 are one kind."""
    return arm.device.partition(":")[0] == base.device.partition(":")[0]


def relative_base(arm: Arm, arms: Mapping[str, Arm], kinds: Mapping[str, str]) -> Arm | str:
    """The arm of the relative speedup, or why there is none.

    `arms` holds all that have a time and `kinds` how the others ended, both by `fullname`.
    """
    if arm.base is None:
        return _no_base(arm)
    name = short_name(arm.base)
    if arm.base not in arms:
        if arm.base in kinds:
            return f"its base {name} has no time ({kinds[arm.base]})"
        return f"its base {name} is not in this run"
    base = arms[arm.base]
    if not same_device(arm, base):
        return f"its base {name} ran on {base.device}, it on {arm.device}: no parallel speedup"
    return incomparable(arm, base) or base


def _no_base(arm: Arm) -> str:
    if arm.axis is None:
        return "no axis"
    if not is_number(arm.params.get(arm.axis)):
        return f"{arm.axis} is no number"
    return f"no arm with {arm.axis}=1 in this series"


def serial_bases(
    arms: Iterable[Arm], seconds_per_item: Mapping[str, float]
) -> dict[str | None, Arm]:
    """By currency, the base of the absolute speedups: the fastest arm that may be serial.

    One on another device than the CPU is a base only where none is on the CPU. `seconds_per_item`
    is by `fullname`.
    """
    candidates = [arm for arm in arms if arm.serial and not arm.oversubscribed]
    candidates.sort(key=lambda arm: (arm.device != "cpu", seconds_per_item[arm.fullname]))
    bases: dict[str | None, Arm] = {}
    for arm in candidates:
        bases.setdefault(currency(arm), arm)
    return bases


def absolute_base(arm: Arm, bases: Mapping[str | None, Arm]) -> Arm | str:
    """The arm of the absolute speedup, or why there is none."""
    if not bases:
        return "no serial arm in this group has a time"
    base = bases.get(currency(arm))
    if base is None:
        return f"no serial arm in this group states {currency(arm) or 'no work, as it does'}"
    return incomparable(arm, base) or base


def short_name(fullname: str) -> str:
    """The test's name in a node id: `test_pool[threads=4]` of `bench/test_x.py::test_pool[...]`."""
    test, bracket, values = fullname.partition("[")
    return test.rpartition("::")[2] + bracket + values
