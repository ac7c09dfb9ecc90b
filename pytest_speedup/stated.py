"""What an arm tells of itself beside its call: checked once, where it enters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_speedup.design import checked


@dataclass(frozen=True)
class Stated:
    """The arm's word, as plain numbers: NumPy's are no JSON."""

    work: float | None
    """Items that one call processes."""
    unit: str
    peak: float | None
    """The most items per second that the machine gives."""
    cpus: int | None
    """CPUs that the arm says it asks for."""
    design: Mapping[str, float | int]
    """What its design costs; see `design.FACTS`."""


def stated(
    work: float | None,
    unit: str,
    peak: float | None,
    cpus: int | None,
    design: Mapping[str, Any] | None,
) -> Stated:
    """The arm's word; ValueError or TypeError where it cannot be true."""
    if work is not None and not 0 < work < math.inf:
        raise ValueError(f"work must be above 0 {unit} and finite, got {work!r}")
    if peak is not None and work is None:
        raise ValueError("peak is told in items per second: say work too, the items of a call")
    if peak is not None and not 0 < peak < math.inf:
        raise ValueError(f"peak must be above 0 {unit}/s and finite, got {peak!r}")
    if cpus is not None and cpus < 1:
        raise ValueError(f"cpus must be at least 1, got {cpus!r}")
    return Stated(
        work=None if work is None else float(work),
        unit=str(unit),
        peak=None if peak is None else float(peak),
        cpus=None if cpus is None else int(cpus),
        design=checked(design),
    )


def repeats_of(function: object) -> int:
    """How often a call does its work, as the callable says of itself; 1 where it says nothing.

    ValueError for what is no whole number of at least 1.
    """
    said = getattr(function, "repeats", 1)
    if isinstance(said, bool) or not isinstance(said, int) or said < 1:
        raise ValueError(f"repeats must be a whole number of at least 1, got {said!r}")
    return said
