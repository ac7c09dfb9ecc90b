"""Medians, ratios and their intervals, against closed forms and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_speedup.estimate import (
    Estimate,
    block_medians,
    differs,
    estimate_median,
    monotone,
    noise_reach,
    overlaps_one,
    ratio,
    ratio_apart,
    time,
)

SESSIONS = 500
ROUNDS = 5


def median_interval(values, confidence=0.95):
    estimate = estimate_median(values, confidence)
    return None if estimate.low is None else (estimate.low, estimate.high)


def interval(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 6, 0.95)


def test_time_is_the_median_over_passes_of_block_medians():
    blocks = [[1, 1, 9], [2, 2, 2], [3, 3, 3], [4, 4, 4], [0.1, 5, 5]]
    assert block_medians(blocks) == (1, 2, 3, 4, 5)
    assert time(blocks) == Estimate(3, 1, 5, 5, 0.9375)


def test_ratio_is_taken_within_passes():
    drifting = [[1.0], [2.0], [4.0], [8.0], [16.0]]
    twice = [[2 * block[0]] for block in drifting]
    assert ratio(twice, drifting) == Estimate(2, 2, 2, 5, 0.9375)


def test_ratio_takes_the_passes_that_both_arms_have():
    assert ratio([[2.0]] * 7, [[1.0]] * 5).n == 5


def test_ratio_of_throughputs_is_scaled_by_the_work():
    assert ratio([[3.0]], [[2.0]], scale=4.0).value == pytest.approx(6.0)


@pytest.mark.parametrize("passes", [4, 5, 6, 9])
def test_ratio_turned_round_is_one_over_it(passes):
    rng = np.random.default_rng(passes)
    a, b = rng.lognormal(size=(2, passes, 3)).tolist()
    there, back = ratio(a, b), ratio(b, a)
    assert back.value == pytest.approx(1 / there.value)
    if there.low is not None:
        assert back.low == pytest.approx(1 / there.high)
        assert back.high == pytest.approx(1 / there.low)


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
def test_fewer_than_five_passes_have_no_interval(passes):
    assert time([[1.0]] * passes) == Estimate(1.0, None, None, passes, None)
    assert median_interval([1.0] * passes) is None


def test_five_passes_say_that_their_range_has_less_confidence():
    estimate = estimate_median([5, 3, 1, 2, 4])
    assert (estimate.low, estimate.high) == (1, 5)
    assert estimate.confidence == pytest.approx(1 - 2 * 0.5**5)


def test_interval_of_six_is_interpolated_as_hettmansperger_and_sheather_do():
    # g(1) = 31/32, g(2) = 25/32, I = (31/32 - 0.95) / (6/32) = 0.1, weight = 5 I / (1 + 4 I)
    low, high = median_interval([0, 10, 20, 30, 40, 50])
    assert low == pytest.approx(10 * 0.5 / 1.4)
    assert high == pytest.approx(50 - 10 * 0.5 / 1.4)


def test_interval_is_uninterpolated_where_order_statistics_have_just_that_confidence():
    exact = 1 - 2 * (1 + 10) / 2**10
    low, high = median_interval(range(10), confidence=exact)
    assert (low, high) == (1, 8)


@pytest.mark.parametrize("n", [5, 6, 8, 10, 20, 1200])
def test_interval_holds_its_estimate_and_lies_within_the_values(n):
    values = np.random.default_rng(n).pareto(1.1, n).tolist()
    estimate = estimate_median(values)
    assert min(values) <= estimate.low <= estimate.value <= estimate.high <= max(values)


def test_more_confidence_is_never_a_narrower_interval():
    values = np.random.default_rng(1).normal(size=20).tolist()
    widths = [high - low for low, high in (median_interval(values, c) for c in (0.5, 0.9, 0.99))]
    assert widths == sorted(widths)


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95])
def test_confidence_outside_zero_and_one_is_refused(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        median_interval([1.0] * 9, confidence)


def test_no_common_pass_is_an_error():
    with pytest.raises(ValueError, match="no pass in common"):
        ratio([[1.0]], [])


def test_a_decreasing_function_swaps_the_limits():
    assert monotone(lambda t: 1 / t, interval(2, 1, 4)) == interval(0.5, 0.25, 1)


def test_a_function_keeps_the_lack_of_an_interval():
    assert monotone(lambda t: 8 / t, time([[2.0]])) == Estimate(4, None, None, 1, None)


# Sessions of a drifting machine with heavy tails: each pass has a speed of its own, which both arms
# see, and each round noise of its own. Both arms' noise is alike, so the true ratio is exact.
TRUTH = 3.2


def lognormal(rng, size):
    return rng.lognormal(0, 0.4, size)


def student_t(rng, size):
    return np.exp(0.1 * rng.standard_t(2, size))


def pareto_contaminated(rng, size):
    stalls = rng.random(size) < 0.1
    return rng.lognormal(0, 0.03, size) * np.where(stalls, 1 + rng.pareto(1.2, size), 1)


@pytest.mark.parametrize("noise", [lognormal, student_t, pareto_contaminated])
@pytest.mark.parametrize("passes", [5, 6, 8, 10, 20])
def test_interval_of_a_ratio_covers_the_truth_as_often_as_it_says(passes, noise):
    rng = np.random.default_rng([passes, len(noise.__name__)])
    covered = 0
    for _ in range(SESSIONS):
        drift = np.exp(np.cumsum(rng.normal(0.05, 0.1, (passes, 1)), axis=0))
        slow, fast = drift * noise(rng, (2, passes, ROUNDS)) * np.array([TRUTH, 1])[:, None, None]
        estimate = ratio(slow.tolist(), fast.tolist())
        covered += estimate.low <= TRUTH <= estimate.high
    assert 0.90 <= covered / SESSIONS <= 0.99


@pytest.mark.parametrize("passes", [5, 6, 8, 10, 20])
def test_interval_of_a_time_covers_the_truth_as_often_as_it_says(passes):
    rng = np.random.default_rng(passes)
    estimates = [time(lognormal(rng, (passes, ROUNDS)).tolist()) for _ in range(SESSIONS)]
    covered = sum(estimate.low <= 1 <= estimate.high for estimate in estimates)
    assert 0.90 <= covered / SESSIONS <= 0.99


def test_times_without_pairing_would_miss_the_ratio_of_a_drifting_machine():
    speed = np.linspace(1, 1.3, 5)
    slow, fast = [[2 * s] for s in speed], [[s] for s in speed]
    one_after_the_other = np.median(speed[3:]) / np.median(speed[:2])
    assert one_after_the_other > 1.1
    assert ratio(slow, fast).value == pytest.approx(2)


def test_an_interval_with_one_in_it_shows_no_difference():
    assert overlaps_one(interval(1.1, 0.9, 1.3)) is True
    assert overlaps_one(interval(1.2, 1.1, 1.3)) is False
    assert not differs(interval(1.1, 0.9, 1.3), None)


def test_a_difference_inside_the_noise_floor_is_none():
    floor = interval(1.01, 0.95, 1.03)
    assert noise_reach(floor) == pytest.approx(-math.log(0.95))
    assert not differs(interval(1.04, 1.03, 1.05), floor)
    assert differs(interval(1.06, 1.05, 1.07), floor)


def test_the_noise_floor_reaches_to_both_sides_of_one():
    assert not differs(interval(0.96, 0.955, 0.965), interval(1.0, 0.99, 1.05))
    assert differs(interval(0.94, 0.93, 0.95), interval(1.0, 0.99, 1.05))


def test_without_an_interval_nothing_differs():
    alone = Estimate(3.0, None, None, 2, None)
    assert overlaps_one(alone) is None
    assert not differs(alone, None)


def test_a_noise_floor_without_interval_reaches_to_its_value():
    assert noise_reach(Estimate(0.5, None, None, 2, None)) == pytest.approx(math.log(2))
    assert noise_reach(None) == 0


def test_ratio_of_runs_made_apart_is_that_of_their_medians_with_both_intervals():
    a, b = [[2.0], [2.2], [2.1], [1.9], [2.0]], [[1.0], [1.1], [0.9], [1.0], [1.0]]
    apart = ratio_apart(a, b)
    assert apart == Estimate(2.0, 1.9 / 1.1, 2.2 / 0.9, 5, (1 - 2 * 0.5**5) ** 2)
    back = ratio_apart(b, a)
    assert (back.low, back.high) == pytest.approx((1 / apart.high, 1 / apart.low))


def test_ratio_of_runs_made_apart_takes_no_notice_of_their_order():
    a, b = [[float(i)] for i in range(1, 8)], [[1.0 + i / 10] for i in range(9)]
    assert ratio_apart(a[::-1], b) == ratio_apart(a, b[::-1])
    assert ratio_apart(a, b).n == 7
    assert ratio_apart(a, b, scale=3).value == pytest.approx(3 * ratio_apart(a, b).value)


def test_ratio_of_runs_made_apart_has_no_interval_where_one_run_has_too_few_passes():
    assert ratio_apart([[1.0]] * 9, [[2.0]] * 4) == Estimate(0.5, None, None, 4, None)


@pytest.mark.parametrize("passes", [(5, 5), (7, 9), (5, 20)])
def test_the_interval_of_runs_made_apart_holds_the_truth_as_often_as_it_says(passes):
    rng = np.random.default_rng(sum(passes))
    held, said = 0, 0.0
    for _ in range(SESSIONS):
        a = (3 * rng.lognormal(0, 0.4, (passes[0], 1))).tolist()
        b = rng.lognormal(0, 0.1, (passes[1], 1)).tolist()
        estimate = ratio_apart(a, b)
        held += estimate.low <= 3 <= estimate.high
        said = estimate.confidence
    assert held / SESSIONS >= said - 0.02
