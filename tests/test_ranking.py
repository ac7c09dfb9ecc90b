"""Which arm is called the fastest, and when two are called a tie."""

from __future__ import annotations

import pytest

from pytest_speedup.analysis import analyse
from pytest_speedup.reading import run_from_json
from tests.run_files import arm_json, run_json, steady


def group_of(*benchmarks):
    (group,) = analyse(run_from_json(run_json(benchmarks), "run.json")).groups
    return group


def jittered(seconds, *factors):
    return [[seconds * factor] for factor in factors]


def test_noise_floor_is_the_second_turn_over_the_first():
    group = group_of(arm_json("test_a", steady(1.0), repeat=steady(1.02)))
    assert group.noise.value == pytest.approx(1.02)
    assert group.noise_arm.name == "test_a"


def test_a_lead_inside_the_noise_floor_is_a_tie():
    slow, fast = arm_json("test_slow", steady(1.03)), arm_json("test_fast", steady(1.0))
    noisy = arm_json("test_serial", steady(2.0), repeat=jittered(2.0, 1, 1.15, 1.26, 1.3, 1.4))
    assert group_of(slow, fast).ranking.tie is False
    assert group_of(slow, fast, noisy).ranking.tie is True


def test_a_lead_whose_interval_holds_one_is_a_tie():
    fast = arm_json("test_fast", jittered(1.0, 1, 1, 1, 1, 1))
    slow = arm_json("test_slow", jittered(1.1, 0.8, 1, 1, 1.1, 1.2))
    group = group_of(fast, slow)
    assert group.ranking.fastest.arm.name == "test_fast"
    assert group.ranking.runner_up.arm.name == "test_slow"
    assert group.ranking.lead.low < 1 < group.ranking.lead.high
    assert group.ranking.tie is True


def test_too_few_passes_rank_nothing():
    group = group_of(arm_json("test_a", steady(1.0, 3)), arm_json("test_b", steady(9.0, 3)))
    assert group.ranking.fastest.arm.name == "test_a"
    assert group.ranking.tie is None


def test_the_comparison_within_passes_decides_who_is_fastest():
    # interrupted after one more pass of a machine that was slowing down: its own median is higher
    longer = arm_json("test_longer", jittered(1.0, 1.0, 2.0, 4.0))
    shorter = arm_json("test_shorter", jittered(1.1, 1.0, 2.0))
    group = group_of(shorter, longer)
    assert group.results[0].time.value < group.results[1].time.value
    assert group.ranking.fastest.arm.name == "test_longer"
    assert group.ranking.lead.value == pytest.approx(1.1)


def test_an_arm_that_a_check_let_in_does_not_hide_the_fastest_of_the_same_values():
    checked = {"bitwise": False, "max_abs_error": 0.1, "tolerance": "5 %", "check": True,
               "facts": {"top1": 0.9}}  # fmt: skip
    group = group_of(
        arm_json("test_half", steady(0.5), verified=checked),
        arm_json("test_same", steady(1.0)),
        arm_json("test_slow", steady(2.0)),
    )
    assert group.ranking.fastest.arm.name == "test_half"
    assert group.by_value.fastest.arm.name == "test_same"
    assert group.by_value.lead.value == pytest.approx(2)


def test_all_that_are_level_with_the_fastest_are_named():
    group = group_of(
        arm_json("test_a", jittered(1.0, 0.9, 1, 1.1, 1, 1)),
        arm_json("test_b", jittered(1.0, 1.1, 1, 0.9, 1, 1)),
        arm_json("test_c", jittered(1.0, 0.8, 1, 1.2, 1, 1)),
        arm_json("test_d", steady(3.0)),
    )
    assert {result.arm.name for result in group.ranking.level} == {"test_a", "test_b", "test_c"}


def test_a_noisy_arm_behind_a_steady_runner_up_is_level_all_the_same():
    group = group_of(
        arm_json("test_fast", steady(1.0)),
        arm_json("test_steady", steady(1.1)),
        # beside `steady`, which drifts: 0.9, 1.2, 1.2, 1.2 and 1.2 of it
        arm_json("test_noisy", jittered(1.2, 0.75, 1.1, 1.2, 1.3, 1.4)),
    )
    assert group.ranking.tie is True
    assert {result.arm.name for result in group.ranking.level} == {"test_fast", "test_noisy"}
    assert group.ranking.runner_up.arm.name == "test_noisy"
    assert group.ranking.lead.low < 1 < group.ranking.lead.high
