"""Reading saved runs: whole ones come back whole, broken ones are named in one line."""

from __future__ import annotations

import copy
import json
import math

import pytest

from pytest_speedup.reading import arm_from_benchmark, read_run, run_from_json
from pytest_speedup.records import RecordError
from tests.run_files import arm_json, make_run_json, run_json

WRONG_TIMES = [math.nan, math.inf, -math.inf, 0, -0.1, True, "0.1", None, [0.1], 10**400, 1e-310]


def refusal(data, source="run.json"):
    """The one line with which an object is refused as a run."""
    with pytest.raises(RecordError) as caught:
        run_from_json(data, source)
    message = str(caught.value)
    assert message.startswith(f"{source}: ")
    assert message.isprintable()
    return message


def edited(**ours):
    """A run of two arms, the second of which has these values under "speedup"."""
    second = arm_json("test_b", [[1.0]])
    second["extra_info"]["speedup"] |= ours
    return run_json([arm_json("test_a", [[1.0]]), second])


def without(key):
    data = edited()
    del data["benchmarks"][1]["extra_info"]["speedup"][key]
    return data


def test_a_saved_run_comes_back_whole(tmp_path):
    saved = make_run_json()
    path = tmp_path / "run.json"
    path.write_text(json.dumps(saved))
    run = read_run(path)
    assert run.source == str(path)
    assert (run.passes, run.passes_done, run.seed, run.incomplete) == (5, 5, 1, None)
    assert [arm.fullname for arm in run.arms] == [b["fullname"] for b in saved["benchmarks"]]
    assert [each.kind for each in run.not_run] == ["failed", "skipped", "interrupted"]
    assert run.not_run[-1].group is None
    assert run.machine["speedup"]["usable_cpus"] == 2


def test_an_arm_comes_back_whole():
    blocks = [[0.5, 0.6], [0.7]]
    arm = arm_from_benchmark(
        arm_json(
            "test_ranks[ranks=2]",
            blocks,
            params={"ranks": 2},
            axis="ranks",
            workers=2,
            base="x::test_ranks[ranks=1]",
            repeat=[[0.5], [0.6]],
            ranks=[[[0.4, 0.5], [0.5, 0.6]], [[0.7, 0.6]]],
            first_call=1.5,
            facts={"transport": "shared memory", "bytes": 12},
        )
    )
    assert arm.blocks == ((0.5, 0.6), (0.7,))
    assert arm.repeat == ((0.5,), (0.6,))
    assert arm.ranks == (((0.4, 0.5), (0.5, 0.6)), ((0.7, 0.6),))
    assert (arm.strategy, arm.axis, arm.workers, arm.cpus) == ("ranks", "ranks", 2, 2)
    assert (arm.work, arm.unit, arm.device, arm.first_call) == (16, "images", "cpu", 1.5)
    assert arm.proof.bitwise is True
    assert arm.threads == {"torch": 1, "openmp": 1, "blas": 1}
    assert arm.facts == {"transport": "shared memory", "bytes": 12}


def test_what_an_arm_may_lack_is_none():
    optional = ("axis", "base", "work", "repeat", "ranks", "verified", "threads", "first_call")
    arm = arm_from_benchmark(arm_json("test_a", [[1]], group=None, **dict.fromkeys(optional)))
    assert arm.proof is None
    assert (arm.work, arm.repeat, arm.ranks, arm.threads) == (None, None, None, None)
    assert (arm.group, arm.params) == ("ungrouped", {})


def test_a_run_from_before_peaks_were_kept_is_read():
    assert arm_from_benchmark(arm_json("test_a", [[1.0]])).peak is None
    assert arm_from_benchmark(arm_json("test_a", [[1.0]], peak=2e9)).peak == 2e9


def test_a_second_turn_that_never_came_is_none():
    assert arm_from_benchmark(arm_json("test_a", [[1.0]], repeat=[])).repeat is None


def test_plain_results_are_passed_over():
    data = edited()
    data["benchmarks"][0]["extra_info"] = {"note": "not ours"}
    assert [arm.name for arm in run_from_json(data, "run.json").arms] == ["test_b"]


def test_a_run_without_arms_is_a_run():
    assert run_from_json(run_json([], incomplete="interrupted", passes_done=0), "x").arms == ()


@pytest.mark.parametrize("seconds", WRONG_TIMES, ids=lambda seconds: f"{seconds!r:.9}")
def test_no_time_but_a_positive_number_is_read(seconds):
    message = refusal(edited(blocks=[[0.1], [0.1, seconds]]))
    assert "benchmarks[1] (test_b).blocks[1][1] must be a positive number, not" in message
    assert message.endswith("measure again")


@pytest.mark.parametrize("key", ["repeat", "first_call", "work", "peak"])
@pytest.mark.parametrize("number", [math.nan, 0, -1, True])
def test_other_numbers_are_held_to_the_same(key, number):
    value = [[number]] if key == "repeat" else number
    assert f"{key}" in refusal(edited(**{key: value}))


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("blocks", [], "a list with at least one pass, not a list of 0"),
        ("blocks", [[]], "a list with at least one time"),
        ("blocks", {"0": [1]}, "a list, not an object"),
        ("blocks", "1", 'a list, not "1"'),
        ("workers", 0, "a whole number from 1 on, not 0"),
        ("workers", 2.0, "a whole number from 1 on, not 2.0"),
        ("workers", True, "a whole number from 1 on, not true"),
        ("workers", 10**400, "a whole number from 1 on, not 1000"),
        ("cpus", None, "a whole number from 1 on, not null"),
        ("serial", 1, "true or false, not 1"),
        ("oversubscribed", "no", 'true or false, not "no"'),
        ("scaling", "both", "'strong' or 'weak', not \"both\""),
        ("scaling", ["weak"], "'strong' or 'weak', not a list of 1"),
        ("strategy", 5, "a text, not 5"),
        ("axis", ["threads"], "a text, not a list of 1"),
        ("base", 1, "a text, not 1"),
        ("unit", None, "a text, not null"),
        ("device", 0, "a text, not 0"),
        ("facts", {"top1": [1]}, "a text or a number, not a list of 1"),
        ("facts", [1], "an object, not a list of 1"),
        ("threads", {"torch": -1}, "a whole number from 0 on, not -1"),
        ("verified", True, "an object, not true"),
        ("verified", {"bitwise": "yes"}, 'true or false, not "yes"'),
        ("verified", {"bitwise": False, "max_abs_error": math.nan}, "zero or a positive number"),
        ("schema", "1", 'a whole number from 1 on, not "1"'),
    ],
)
def test_a_wrong_value_is_named_with_what_was_wanted(key, value, wanted):
    message = refusal(edited(**{key: value}))
    assert f"benchmarks[1] (test_b).{key}" in message
    assert f"must be {wanted}" in message


@pytest.mark.parametrize(
    "ranks",
    [
        [],
        [[[1.0]]],
        [[[1.0, 1.0]], [[1.0, 1.0]]],
        [[[1.0, 1.0], [1.0, 1.0]], [[1.0]]],
        [[[1.0], []], [[1.0]]],
        [[1.0, 1.0], [1.0]],
        [[[1.0], [0]], [[1.0]]],
    ],
)
def test_ranks_have_the_shape_of_the_blocks(ranks):
    assert "(test_b).ranks" in refusal(edited(blocks=[[1.0, 1.0], [1.0]], ranks=ranks))


@pytest.mark.parametrize("key", ["schema", "strategy", "workers", "unit", "serial", "blocks"])
def test_a_missing_value_is_named(key):
    assert f"benchmarks[1] (test_b) has no '{key}'" in refusal(without(key))


def test_a_newer_schema_asks_for_an_upgrade():
    data = edited()
    data["speedup"]["schema"] = 2
    for newer in (data, edited(schema=2)):
        assert "schema 2, this one reads 1); upgrade pytest-speedup" in refusal(newer)


def test_one_arm_twice_is_never_averaged():
    twice = run_json([arm_json("test_a", [[1.0]]), arm_json("test_a", [[2.0]])])
    assert "two results of bench/inference/test_made_up.py::test_a" in refusal(twice)


def test_a_plain_benchmark_file_is_told_from_ours():
    plain = edited()
    del plain["speedup"]
    assert "without pytest-speedup" in refusal(plain)
    assert "@pytest.mark.speedup" in refusal(plain)


@pytest.mark.parametrize("data", [{}, [], 3, None, "run", {"speedup": {}}])
def test_what_pytest_benchmark_did_not_save_is_no_run(data):
    assert "is not a run that pytest-benchmark saved" in refusal(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("speedup", None),
        ("benchmarks", {}),
        ("benchmarks", [3]),
        ("machine_info", []),
        ("datetime", 5),
        ("commit_info", "abc"),
    ],
)
def test_a_run_of_wrong_parts_is_refused(key, value):
    assert "must be" in refusal(edited() | {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("passes", 0),
        ("passes_done", -1),
        ("seed", "1"),
        ("world_size", 0),
        ("incomplete", True),
        ("not_run", None),
        ("not_run", [{"fullname": "x", "reason": "y", "kind": "lost"}]),
        ("not_run", [{"fullname": "x", "reason": None, "kind": "failed"}]),
    ],
)
def test_a_wrong_value_of_the_run_is_named(key, value):
    assert f"the file.speedup.{key}" in refusal(run_json([], **{key: value}))


def test_control_characters_never_reach_the_terminal():
    data = edited(scaling="\x1b[2J\u202e\n" * 50)
    data["benchmarks"][1]["name"] = "test_b[\x1b]0;\x07]"
    with pytest.raises(RecordError) as caught:
        run_from_json(data, "a\x1bb.json")
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("a\\x1bb.json: ")
    assert len(message) < 300


def test_names_with_control_characters_are_read_as_they_are():
    data = run_json([arm_json("test_b[\x1b</svg>|/]", [[1.0]])])
    assert run_from_json(data, "x").arms[0].name == "test_b[\x1b</svg>|/]"


def test_reading_changes_nothing_in_the_data():
    data = make_run_json()
    before = copy.deepcopy(data)
    run_from_json(data, "x")
    assert data == before


def test_a_single_benchmark_is_refused_like_a_run():
    with pytest.raises(RecordError, match=r"the benchmark \(test_a\)\.blocks\[0\]\[0\]"):
        arm_from_benchmark(arm_json("test_a", [[-1.0]]))
    with pytest.raises(RecordError, match="has no 'extra_info'"):
        arm_from_benchmark({"name": "test_a"})
