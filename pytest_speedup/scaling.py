"""Efficiency, Karp-Flatt and Amdahl: the textbook measures of strong scaling, as pure functions.

S is a speedup over one worker, p a number of workers, s a serial fraction. All are for a fixed
total work. Weak scaling has a law of its own (Gustafson's); fitting Amdahl's to it would be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_speedup.estimate import Estimate, estimate_median

FEWEST_POINTS = 3
"""Distinct numbers of workers, one among them, below which no serial fraction is fitted."""


def efficiency(speedup: float, workers: int) -> float:
    """S / p: the share of the workers' time that went into the work."""
    return speedup / workers


def karp_flatt(speedup: float, workers: int) -> float:
    """The experimentally determined serial fraction, (1/S - 1/p) / (1 - 1/p).

    Flat over p it is a serial part, growing it is overhead, negative it is a superlinear speedup.
    Karp and Flatt, "Measuring parallel processor performance", Communications of the ACM 33 (1990)
    539-543. ValueError for fewer than two workers.
    """
    if workers < 2:
        raise ValueError(f"the Karp-Flatt fraction needs two or more workers, not {workers}")
    return (1 / speedup - 1 / workers) / (1 - 1 / workers)


def amdahl_speedup(serial_fraction: float, workers: int) -> float:
    """1 / (s + (1 - s) / p): what p workers give where a share s of the work stays serial.

    Amdahl, "Validity of the single processor approach to achieving large scale computing
    capabilities", AFIPS 30 (1967) 483-485.
    """
    return 1 / (serial_fraction + (1 - serial_fraction) / workers)


def amdahl_fit(seconds: Mapping[int, Sequence[float]]) -> Estimate | None:
    """The serial fraction that fits the times of one series best, with its interval over passes.

    `seconds` holds, by number of workers, the time of the same work in each pass; pass i is the
    same for all. Within a pass Amdahl's law is 1/S - 1/p = s (1 - 1/p), a line through the origin,
    and s its least-squares slope; the estimate is the median over the passes that all points have.
    It may be slightly negative (noise) or clearly so (superlinear speedup).

    None with fewer than three numbers of workers, without one worker among them, or without a
    common pass.
    """
    if len(seconds) < FEWEST_POINTS or 1 not in seconds:
        return None
    workers = tuple(seconds)
    slopes = [
        _serial_fraction(dict(zip(workers, times, strict=True)))
        for times in zip(*seconds.values(), strict=False)
    ]
    return estimate_median(slopes) if slopes else None


def _serial_fraction(seconds: Mapping[int, float]) -> float:
    """The slope of 1/S - 1/p over 1 - 1/p through the origin, by least squares, in one pass."""
    points = [(1 - 1 / p, time / seconds[1] - 1 / p) for p, time in seconds.items()]
    return sum(x * y for x, y in points) / sum(x * x for x, _ in points)
