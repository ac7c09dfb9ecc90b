"""Medians and ratios of timed blocks, each with an interval that assumes no distribution.

A block holds the seconds of every round that an arm was given in one pass. Rounds of one block
follow each other and are no independent samples; passes are. So a block becomes its median, and
every interval is over passes. A ratio is taken within a pass, where both arms saw the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

CONFIDENCE = 0.95
FEWEST = 5
"""Passes below which no interval is given: the widest one over 4 has only 87.5 % confidence."""


@dataclass(frozen=True)
class Estimate:
    """A median over passes and its confidence interval."""

    value: float
    low: float | None
    """None, as `high` and `confidence`, where there are too few passes for any interval."""
    high: float | None
    n: int
    """Passes behind it."""
    confidence: float | None
    """Of the interval [low, high]: 0.95, or 0.9375 from five passes, which can give no more."""


def block_medians(blocks: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The median of each block; `statistics.StatisticsError` (a ValueError) on an empty block."""
    return tuple(median(block) for block in blocks)


def time(blocks: Sequence[Sequence[float]]) -> Estimate:
    """Seconds per call: the median over passes of the block medians; ValueError without blocks."""
    return estimate_median(block_medians(blocks))


def ratio(
    numerator_blocks: Sequence[Sequence[float]],
    denominator_blocks: Sequence[Sequence[float]],
    scale: float = 1.0,
) -> Estimate:
    """The median over passes of numerator / denominator within a pass, times `scale`.

    Block i of both is from pass i; passes that only one of them has are left out. Where the median
    or a limit lies between two passes it is their weighted geometric mean, so that the ratio of
    a to b is one over that of b to a. All seconds must be positive; ValueError without a common
    pass.
    """
    numerators, denominators = block_medians(numerator_blocks), block_medians(denominator_blocks)
    ratios = [a / b * scale for a, b in zip(numerators, denominators, strict=False)]
    return estimate_median(ratios, between=_geometric)


def ratio_apart(
    numerator_blocks: Sequence[Sequence[float]],
    denominator_blocks: Sequence[Sequence[float]],
    scale: float = 1.0,
) -> Estimate:
    """The ratio of two medians over passes of sessions that did not take turns, times `scale`.

    The sessions are independent, so the two medians' own intervals hold both of them with the
    product of their confidences, and the ratio then lies between the outermost quotients. Each has
    confidence sqrt(CONFIDENCE), as Sidak's correction for two intervals wants ("Rectangular
    confidence regions for the means of multivariate normal distributions", Journal of the American
    Statistical Association 62 (1967) 626-633); from fewer than seven passes less can be had. Wider
    than Price and Bonett's for a ratio of medians, which takes the medians' logarithms for normal.
    `n` is the smaller number of passes. What differed between the sessions but their devices (the
    day, the load) is in no interval. ValueError without blocks.
    """
    over, under = (
        estimate_median(block_medians(blocks), math.sqrt(CONFIDENCE), between=_geometric)
        for blocks in (numerator_blocks, denominator_blocks)
    )
    value, n = over.value / under.value * scale, min(over.n, under.n)
    ends = (over.low, over.high, under.low, under.high)
    if None in ends or over.confidence is None or under.confidence is None:
        return Estimate(value, None, None, n, None)
    low, high, least, most = (end or math.nan for end in ends)
    return Estimate(
        value, low / most * scale, high / least * scale, n, over.confidence * under.confidence
    )


def monotone(function: Callable[[float], float], estimate: Estimate) -> Estimate:
    """`function` of an estimate; a median and its interval pass through any monotone function."""
    if estimate.low is None or estimate.high is None:
        return Estimate(function(estimate.value), None, None, estimate.n, None)
    low, high = sorted((function(estimate.low), function(estimate.high)))
    return Estimate(function(estimate.value), low, high, estimate.n, estimate.confidence)


def _linear(a: float, b: float, weight: float) -> float:
    return a + weight * (b - a)


def _geometric(a: float, b: float, weight: float) -> float:
    return float(a * (b / a) ** weight)


def estimate_median(
    values: Sequence[float],
    confidence: float = CONFIDENCE,
    between: Callable[[float, float, float], float] = _linear,
) -> Estimate:
    """The median of one value per pass, with its interval; ValueError without values.

    `between(a, b, weight)` is the point between two neighbours, a at weight 0 and b at 1; a
    straight line by default.
    """
    if not values:
        raise ValueError("no value to take a median of: the arms have no pass in common")
    ordered = sorted(values)
    n = len(ordered)
    middle = between(ordered[(n - 1) // 2], ordered[n // 2], 0.5)
    if n < FEWEST:
        return Estimate(middle, None, None, n, None)
    d, weight, reached = _interval_position(n, confidence)
    low, high = ordered[d - 1], ordered[n - d]
    if weight:
        low, high = between(low, ordered[d], weight), between(high, ordered[n - d - 1], weight)
    return Estimate(middle, low, high, n, reached)


@lru_cache(maxsize=256)
def _interval_position(n: int, confidence: float) -> tuple[int, float, float]:
    """Which order statistics bound the median: (d, weight, confidence).

    The interval from the d-th smallest to the d-th largest value holds the median with confidence
    g(d) = P(d <= S <= n - d), S ~ Binomial(n, 1/2). The limits lie `weight` of the way from there
    to the (d+1)-th, by the interpolation of Hettmansperger and Sheather, "Confidence intervals
    based on interpolated order statistics", Statistics & Probability Letters 4 (1986) 75-79:
    weight = (n - d) I / (d + (n - 2 d) I) with I = (g(d) - confidence) / (g(d) - g(d+1)).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    coverages = _coverages(n)
    if coverages[0] < confidence:
        return 1, 0.0, coverages[0]
    d = sum(coverage >= confidence for coverage in coverages)
    wider, narrower = coverages[d - 1], coverages[d]
    share = (wider - confidence) / (wider - narrower)
    return d, (n - d) * share / (d + (n - 2 * d) * share), confidence


def _coverages(n: int) -> list[float]:
    """g(1), g(2), ... down to an interval that is empty: 1 - 2 P(S < d)."""
    coverages = []
    ways = below = 1
    for d in range(1, n // 2 + 1):
        coverages.append(1 - 2 * below / (1 << n))
        ways = ways * (n - d + 1) // d
        below += ways
    return [*coverages, 0.0]


def overlaps_one(estimate: Estimate) -> bool | None:
    """Whether the interval of a ratio holds 1; None without an interval."""
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.low <= 1 <= estimate.high


def noise_reach(floor: Estimate | None) -> float:
    """How far from 1, in |log ratio|, two turns of one and the same arm may lie."""
    if floor is None:
        return 0.0
    ends = (floor.value, floor.low, floor.high)
    return max(abs(math.log(end)) for end in ends if end is not None)


def differs(estimate: Estimate, floor: Estimate | None) -> bool:
    """Whether a ratio may be called different from 1.

    It may where its interval excludes 1 and its value lies outside the noise floor's reach; never
    without an interval. `floor` is the ratio of two turns of one arm, None where there was none.
    """
    return overlaps_one(estimate) is False and abs(math.log(estimate.value)) > noise_reach(floor)
