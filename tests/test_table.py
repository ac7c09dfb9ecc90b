"""What the table says, and that it says it within the width and without harm."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_speedup.analysis import analyse
from pytest_speedup.columns import cells, fold
from pytest_speedup.estimate import Estimate
from pytest_speedup.reading import run_from_json
from pytest_speedup.table import render
from pytest_speedup.wording import duration, fraction, number, percent_apart, plus_minus, rate_name
from tests.run_files import GROUP, arm_json, make_run_json, run_json

HOSTILE = "a<b>|/c $x$ [bold]\x1b[31m\x00\u202e\n ]]> 漢字 \ud800"


def table(saved: Mapping[str, Any], **given: Any) -> str:
    return render(analyse(run_from_json(saved, "run.json")), **given)


def row(text: str, label: str) -> list[str]:
    """The cells of one arm's row."""
    (line,) = (line for line in text.splitlines() if re.match(rf"{re.escape(label)}  ", line))
    return re.split(r"\s{2,}", line)


def steady(seconds: float, passes: int = 5) -> list[list[float]]:
    return [[seconds * (1 + 0.001 * p)] for p in range(passes)]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_no_line_is_wider_than_asked(width: int) -> None:
    saved = make_run_json()
    saved["benchmarks"].append(
        arm_json("test_x[threads=4]", steady(1), strategy=HOSTILE * 5, group=HOSTILE * 9)
    )
    assert max(cells(line) for line in table(saved, width=width).splitlines()) <= width


def test_numbers_stay_whole_at_80_columns() -> None:
    text = table(make_run_json(noise=0, drift=0), width=80)
    assert re.search(r"^thread_pool threads=2 .* 440\.0 ±0\.0 .*bitwise$", text, re.MULTILINE)
    assert "left out at this width: " in text


def test_a_row_tells_time_throughput_both_speedups_efficiency_and_proof() -> None:
    text = table(make_run_json(noise=0, drift=0), width=160)
    assert row(text, "thread_pool threads=2") == [
        "thread_pool threads=2",
        "2",
        "440.0 [440.0, 440.0]",
        "36.4",
        "1.82 [1.82, 1.82]",
        "1.59 [1.59, 1.59]",
        "91 %",
        "bitwise",
    ]


def test_intervals_have_brackets_where_there_is_room_and_a_reach_where_there_is_not() -> None:
    saved = make_run_json()
    assert "±" not in table(saved, width=160)
    narrow = table(saved, width=100)
    assert "±: as far as the farther end of the interval" in narrow


def test_the_absolute_base_is_named_with_its_time() -> None:
    assert "absolute: vs batched batch_size=8, 700 ms [700, 700]" in table(
        make_run_json(noise=0, drift=0)
    )


def test_a_base_in_another_series_is_named_with_its_time() -> None:
    serial = arm_json("test_serial", steady(0.4), serial=True)
    pool = arm_json(
        "test_pool[threads=2]",
        steady(0.2),
        params={"threads": 2},
        axis="threads",
        workers=2,
        base=serial["fullname"],
    )
    assert re.search(
        r"^relative: pool vs serial, 40\d ms \[400, 40\d\]$",
        table(run_json([serial, pool])),
        re.MULTILINE,
    )


def test_without_a_serial_arm_the_table_says_that_nothing_is_absolute() -> None:
    assert "absolute: none: " in table(run_json([arm_json("test_a", steady(1))]))


def test_the_noise_floor_stands_at_the_head_with_its_interval() -> None:
    head = table(make_run_json()).split("strategy")[0]
    assert re.search(
        r"noise floor: same arm \(serial\) twice differs by [+−]\d\.\d % \[[+−].*, [+−].*\]", head
    )


@pytest.mark.parametrize(
    ("passes", "said"),
    [
        (3, "no intervals: too few passes (3 passes)"),
        (5, "93.8 % intervals (5 passes)"),
        (7, "95 % intervals (7 passes)"),
    ],
)
def test_the_head_states_the_confidence_that_the_passes_give(passes: int, said: str) -> None:
    assert said in table(make_run_json(passes=passes))


def test_too_few_passes_leave_question_marks_and_no_ranking() -> None:
    text = table(make_run_json(passes=3), width=140)
    assert "[?]" in text
    assert "?: too few passes for an interval" in text
    assert "too few passes to tell" in text
    assert "fastest verified" not in text


def test_an_oversubscribed_arm_is_marked_and_has_no_efficiency() -> None:
    text = table(make_run_json(usable_cpus=2), width=160)
    assert row(text, "thread_pool threads=4")[1] == "4*"
    assert row(text, "thread_pool threads=4")[-2] == "–"
    assert "*: oversubscribed, more than the 2 usable CPUs" in text


def test_workers_of_several_threads_show_both_numbers() -> None:
    arm = arm_json(
        "test_pool[processes=2]",
        steady(1),
        params={"processes": 2},
        axis="processes",
        workers=2,
        cpus=4,
        usable_cpus=4,
    )
    text = table(run_json([arm]))
    assert "2×2" in text
    assert "4×2: 4 workers of 2 threads each" in text


def test_an_arm_that_lost_its_base_says_why_and_has_no_relative_speedup() -> None:
    text = table(make_run_json(), width=160)
    assert row(text, "process_pool processes=2")[4] == "–"
    assert (
        "no relative speedup: process_pool processes=2: "
        "its base test_process_pool[processes=1] has no time (failed)" in text
    )


def test_a_ratio_between_devices_is_told_apart_from_the_speedups() -> None:
    text = table(make_run_json(noise=0, drift=0), width=160)
    assert row(text, "device=cuda")[5] == "–"
    assert "device ratio, not a speedup: device=cuda 35.00 [35.00, 35.00] times batched" in text


def test_the_fastest_arm_is_named_with_its_lead() -> None:
    fast, slow = arm_json("test_fast", steady(0.2)), arm_json("test_slow", steady(0.5))
    text = table(run_json([slow, fast]))
    assert "fastest verified: fast, 2.50 [2.50, 2.50] times as fast as slow" in text


def test_two_arms_within_the_noise_are_a_tie_of_both_names() -> None:
    jitter = [[1.0], [1.02], [0.99], [1.01], [0.98]]
    text = table(run_json([arm_json("test_a", jitter), arm_json("test_b", jitter[::-1])]))
    assert re.search(r"^tie: (a and b|b and a) \(", text, re.MULTILINE)
    assert "fastest" not in text


def test_the_proof_is_the_error_where_bits_differ() -> None:
    text = table(make_run_json(), width=160)
    assert row(text, "compiled")[-1] == "3e-06"
    assert row(text, "bfloat16")[-1] == "check"
    assert re.search(r"bfloat16 .*largest error 2e-02, top1=0.9375", text.replace("\n  ", " "))


def test_a_plain_benchmark_has_no_proof_of_ours() -> None:
    text = table(run_json([arm_json("test_a", steady(1), verified=None)]), width=160)
    assert row(text, "a")[-1] == "none"


def test_a_rate_is_told_in_its_unit_and_as_a_share_of_the_peak() -> None:
    arms = [
        arm_json("test_a", [[0.5]] * 5, work=1e11, unit="FLOP", peak=4e11),
        arm_json("test_b", [[0.25]] * 5, work=1e11, unit="FLOP", peak=8e11, cpus=2),
    ]
    text = table(run_json(arms), width=160)
    assert re.search(r"strategy .* GFLOP/s  of peak ", text)
    assert row(text, "a")[3:5] == ["200", "50 %"]
    assert row(text, "b")[3:5] == ["400", "50 %"]
    assert "of peak: vs 400 GFLOP/s on 1 CPU, 800 GFLOP/s on 2 CPUs" in text


def test_without_a_peak_there_is_no_share() -> None:
    assert "of peak" not in table(make_run_json(), width=160)


@pytest.mark.parametrize(
    ("prefix", "unit", "told"),
    [("G ", "B", "GB/s"), ("", "FLOP", "FLOP/s"), ("M ", "images", "M images/s")],
)
def test_a_symbol_takes_its_prefix_without_a_space(prefix: str, unit: str, told: str) -> None:
    assert rate_name(prefix, unit) == told


def test_amdahl_and_karp_flatt_are_told_per_series() -> None:
    text = table(make_run_json(usable_cpus=8, noise=0, drift=0))
    assert "Amdahl's fit: serial fraction of thread_pool 0.10 [0.10, 0.10]" in text
    assert (
        "Karp-Flatt fraction of thread_pool 0.10 [0.10, 0.10] at 2, 0.10 [0.10, 0.10] at 4" in text
    )


def test_a_fraction_that_noise_made_negative_keeps_its_sign_and_two_digits() -> None:
    assert fraction(Estimate(-0.004, -0.021, 0.0004, 7, 0.95)) == "0.00 [−0.02, 0.00]"
    assert fraction(Estimate(-0.2, None, None, 2, None)) == "−0.20"


def test_tests_that_did_not_run_are_listed_by_reason() -> None:
    tests = [
        {"fullname": f"t.py::test_d[{i}]", "group": GROUP, "reason": "no GPU", "kind": "skipped"}
        for i in range(20)
    ]
    saved = run_json([arm_json("test_a", steady(1))], not_run=tests)
    (line,) = (x for x in table(saved, width=300).splitlines() if x.startswith("not run"))
    assert line.endswith("and 12 more: skipped, no GPU")
    assert "not run: test_workers[workers=4]: interrupted" in table(make_run_json())


def test_a_group_without_any_time_still_says_what_did_not_run() -> None:
    missing = {"fullname": "t.py::test_a", "group": "lost", "reason": "boom", "kind": "failed"}
    text = table(run_json([], not_run=[missing]))
    assert "not run: test_a: failed, boom" in text
    assert "strategy" not in text


def test_an_incomplete_run_says_so_first() -> None:
    saved = make_run_json()
    saved["speedup"] |= {"incomplete": "interrupted", "passes_done": 4}
    first = table(saved, color=True).splitlines()[0]
    assert first == "\x1b[1;31mINCOMPLETE RUN: interrupted (4 of 5 passes done)\x1b[0m"


def test_without_colour_only_newlines_are_control_characters() -> None:
    saved = make_run_json()
    saved["benchmarks"].append(arm_json(f"test_{HOSTILE}", steady(1), group=HOSTILE, unit=HOSTILE))
    saved["machine_info"]["speedup"]["cpu_model"] = HOSTILE
    saved["speedup"]["not_run"][0]["reason"] = HOSTILE
    text = table(saved)
    assert text.replace("\n", "").isprintable()
    assert r"[bold]\x1b[31m\x00\u202e\n" in text


def test_colour_changes_nothing_but_colour() -> None:
    saved = make_run_json()
    coloured = table(saved, color=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == table(saved)


def test_the_same_run_gives_the_same_table_after_a_trip_through_json() -> None:
    saved = make_run_json()
    assert table(json.loads(json.dumps(saved))) == table(saved)


def test_two_thousand_arms_keep_every_row() -> None:
    arms = [
        arm_json(f"test_s{i}[threads={p}]", steady(1 / p), params={"threads": p}, axis="threads")
        for i in range(500)
        for p in (1, 2, 4, 8)
    ]
    text = table(run_json(arms))
    assert sum(line.endswith("bitwise") for line in text.splitlines()) == 2000


def test_a_reach_is_rounded_up_to_the_farther_end() -> None:
    assert plus_minus(Estimate(2.61, 2.05, 2.66, 5, 0.9375)) == "2.61 ±0.56"
    assert plus_minus(Estimate(1.0, 0.9999, 1.0, 5, 0.9375)) == "1.00 ±0.01"


def test_units_follow_the_size_of_a_time() -> None:
    assert duration(Estimate(3.1e-7, 3e-7, 3.2e-7, 7, 0.95)) == "310 ns [300, 320]"
    assert duration(Estimate(12.5, None, None, 2, None)) == "12.5 s [?]"


def test_small_numbers_keep_their_digits() -> None:
    assert number(0.00042, 2) == "0.00042"
    assert percent_apart(Estimate(0.9999, None, None, 2, None)) == "+0.0 % [?]"
    assert percent_apart(Estimate(0.997, 0.989, 1.004, 5, 0.9375)) == "−0.3 % [−1.1, +0.4]"


def test_folding_keeps_every_character_within_the_width() -> None:
    text = "漢字 and a_word_longer_than_the_width"
    lines = fold(text, 9)
    assert max(cells(line) for line in lines) <= 9
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
