"""Which arm is called the fastest, and when two are called a tie."""

from __future__ import annotations

import pytest

from pytest_speedup.analysis import analyse
from pytest_speedup.records import run_from_json
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
    assert group_of(slow, fast).tie is False
    assert group_of(slow, fast, noisy).tie is True


def test_a_lead_whose_interval_holds_one_is_a_tie():
    fast = arm_json("test_fast", jittered(1.0, 1, 1, 1, 1, 1))
    slow = arm_json("test_slow", jittered(1.1, 0.8, 1, 1, 1.1, 1.2))
    group = group_of(fast, slow)
    assert (group.fastest.arm.name, group.runner_up.arm.name) == ("test_fast", "test_slow")
    assert group.lead.low < 1 < group.lead.high
    assert group.tie is True


def test_too_few_passes_rank_nothing():
    group = group_of(arm_json("test_a", steady(1.0, 3)), arm_json("test_b", steady(9.0, 3)))
    assert group.fastest.arm.name == "test_a"
    assert group.tie is None


def test_the_comparison_within_passes_decides_who_is_fastest():
    # interrupted after one more pass of a machine that was slowing down: its own median is higher
    longer = arm_json("test_longer", jittered(1.0, 1.0, 2.0, 4.0))
    shorter = arm_json("test_shorter", jittered(1.1, 1.0, 2.0))
    group = group_of(shorter, longer)
    assert group.results[0].time.value < group.results[1].time.value
    assert group.fastest.arm.name == "test_longer"
    assert group.lead.value == pytest.approx(1.1)
