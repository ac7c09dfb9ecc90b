"""What an arm costs beside its time: measured power and energy, and what its design states."""

from __future__ import annotations

from pytest_speedup.analysis import ArmResult
from pytest_speedup.estimate import Estimate, block_medians, estimate_median, monotone
from pytest_speedup.records import Arm


def power(arm: Arm) -> Estimate | None:
    """Watts while its blocks lasted: the median over passes; None where none could be read."""
    watts = [each for each in (arm.power.watts if arm.power else ()) if each is not None]
    return estimate_median(watts) if watts else None


def energy(arm: Arm) -> Estimate | None:
    """Joules of a call: the median over passes of power times seconds; None without power."""
    watts = arm.power.watts if arm.power else ()
    pairs = zip(watts, block_medians(arm.blocks), strict=False)
    joules = [each * seconds for each, seconds in pairs if each is not None]
    return estimate_median(joules) if joules else None


def no_power(arm: Arm) -> str | None:
    """Why there is no power; None where there is."""
    if arm.power is None:
        return "the run is from before power was kept"
    if any(each is not None for each in arm.power.watts):
        return None
    return arm.power.missing or "no reason was kept"


def launch_share(row: ArmResult) -> Estimate | None:
    """The share of a call's time that its launches' own cost makes; None unless both are stated."""
    launches = row.arm.design.get("launches")
    each = row.arm.design.get("launch_seconds")
    if launches is None or each is None:
        return None
    spent = launches * each
    return monotone(lambda seconds: spent / seconds, row.time)


def traffic(row: ArmResult) -> Estimate | None:
    """Bytes per second that the design moves from and to memory; None unless it states them."""
    moved = row.arm.design.get("bytes")
    return None if moved is None else monotone(lambda seconds: moved / seconds, row.time)


def intensity(arm: Arm) -> float | None:
    """FLOP per byte moved, by the design; None unless it states both."""
    moved, flop = arm.design.get("bytes"), arm.design.get("flop")
    return None if moved is None or flop is None else flop / moved
