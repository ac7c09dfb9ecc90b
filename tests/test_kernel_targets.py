"""Targets read from made-up runs: what is compared, how it is averaged, and when one is missed."""

from __future__ import annotations

import json
import math
import re

import pytest

from bench.kernels.cases import CASES, NETWORK, ON_CPUS, TITLES
from bench.kernels.ratios import against_loops, arms_of, mean_speedup
from bench.kernels.targets import TARGETS, Target, main, outcomes, wide_3x3
from pytest_speedup.reading import run_from_json
from tests.run_files import arm_json, run_json

FIRST, SECOND = "conv2d_resnet18_layer1_b1", "conv2d_cifar_conv1_b32"
DRIFT = (1.0, 1.3, 0.7, 2.0, 1.1)
"""How much slower the made-up machine is in each pass."""


def arm(implementation, case, seconds, threads=1, **more):
    """An arm of a case, or of the network, that takes `seconds` on a machine that drifts."""
    what = "network" if case == NETWORK else "case"
    return arm_json(
        f"test_{implementation}[{what}={case}-threads={threads}]",
        [[seconds * slower] for slower in DRIFT],
        file="bench/kernels/test_operators.py",
        group=TITLES[case],
        params={what: case, "threads": threads},
        axis="threads",
        workers=threads,
        **more,
    )


def failed(implementation, case, kind="failed"):
    name = f"bench/kernels/test_operators.py::test_{implementation}[case={case}-threads=1]"
    return {"fullname": name, "group": TITLES[case], "reason": "wrong", "kind": kind}


def told(arms, *targets, **run):
    """The outcomes of targets, all of them where none is named."""
    return outcomes(run_from_json(run_json(arms, **run), "made up"), targets or TARGETS)


def known(arms, *targets, **run):
    return [each for each in told(arms, *targets, **run) if each.verdict != "not measured"]


def saved(tmp_path, arms, **run):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_json(arms, **run)))
    return [str(path)]


CONV = Target("conv2d", "numba", mean=1.0, each=0.7)


def test_the_mean_is_geometric_and_the_worst_is_named():
    arms = [
        arm("numba", FIRST, 0.5), arm("torch", FIRST, 1.0),
        arm("numba", SECOND, 1.25), arm("torch", SECOND, 1.0),
    ]  # fmt: skip
    (outcome,) = told(arms, CONV)
    assert outcome.mean.value == pytest.approx(math.sqrt(2 * 0.8))
    assert outcome.worst[0].value == pytest.approx(0.8)
    assert outcome.worst[1] == CASES[SECOND].title
    assert (outcome.shapes, outcome.verdict) == (2, "reached")


def test_a_machine_that_drifts_changes_no_ratio_and_no_interval():
    (outcome,) = told([arm("numba", FIRST, 0.5), arm("torch", FIRST, 1.0)], CONV)
    assert (outcome.mean.low, outcome.mean.high) == (pytest.approx(2), pytest.approx(2))


def test_the_interval_of_the_mean_is_over_the_passes():
    def blocks(values):
        return [[value] for value in values]

    base = arm("torch", FIRST, 1.0)
    ours = arm("numba", FIRST, 1.0)
    base["extra_info"]["speedup"]["blocks"] = blocks([1, 2, 4, 8, 16])
    ours["extra_info"]["speedup"]["blocks"] = blocks([1, 1, 1, 1, 1])
    run = run_from_json(run_json([base, ours]), "x")
    arms = arms_of(run)
    gain = mean_speedup([(arms[FIRST, "numba", 1], arms[FIRST, "torch", 1])])
    assert (gain.value, gain.low, gain.high) == pytest.approx((4, 1, 16))


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (1.0, 1.0, "reached"),
        (1.01, 1.0, "MISSED"),
        (0.5, 1.4, "reached"),
        (0.5, 1.5, "MISSED"),  # the mean is above 1, the second shape under 0.7
    ],
)
def test_mean_and_each_shape_both_have_to_be_reached(first, second, verdict):
    arms = [
        arm("numba", FIRST, first), arm("torch", FIRST, 1.0),
        arm("numba", SECOND, second), arm("torch", SECOND, 1.0),
    ]  # fmt: skip
    assert [each.verdict for each in told(arms, CONV)] == [verdict]


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([0.5, 0.6, 0.7, 0.8, 0.9], "reached"),
        ([0.7, 0.8, 0.9, 1.1, 1.2], "reached?"),
        ([0.8, 0.9, 1.1, 1.2, 1.3], "MISSED?"),
        ([1.1, 1.2, 1.3, 1.35, 1.4], "MISSED"),
        ([0.5, 0.5, 0.5], "reached?"),  # too few passes for an interval
    ],
)
def test_a_target_that_the_interval_leaves_open_gets_a_question_mark(ours, verdict):
    arms = [arm("numba", FIRST, 1.0), arm("torch", FIRST, 1.0)]
    for each, seconds in zip(arms, (ours, [1.0] * len(ours)), strict=True):
        each["extra_info"]["speedup"]["blocks"] = [[second] for second in seconds]
    assert [each.verdict for each in told(arms, CONV)] == [verdict]


def test_arms_are_compared_at_the_same_number_of_threads():
    arms = [
        arm("numba_threads", FIRST, 1.0, 1), arm("numba_threads", FIRST, 0.5, 2),
        arm("torch", FIRST, 3.0, 1), arm("torch", FIRST, 1.0, 2),
    ]  # fmt: skip
    found = known(arms)
    assert [(each.threads, round(each.mean.value, 6)) for each in found] == [(1, 3), (2, 2)]


def test_more_threads_than_cpus_are_no_target():
    arms = [arm("numba_threads", FIRST, 1.0, 4), arm("torch", FIRST, 3.0, 4)]
    assert known(arms) == []


def test_an_arm_that_is_alone_tells_nothing():
    assert known([arm("torch", FIRST, 1.0)]) == []
    assert known([arm("numba", FIRST, 1.0)]) == []


@pytest.mark.parametrize("implementation", ["numba", "torch"])
@pytest.mark.parametrize("kind", ["failed", "interrupted"])
def test_a_shape_without_a_time_misses_its_target(implementation, kind):
    arms = [arm("numba", FIRST, 0.5), arm("torch", FIRST, 1.0), arm("loops", SECOND, 9.0)]
    lost = [failed(implementation, SECOND, kind)]
    (outcome,) = told(arms, CONV, not_run=lost)
    assert outcome.verdict == "MISSED"
    assert f"test_{implementation}[case={SECOND}-threads=1]" in outcome.failed


def test_a_family_of_which_all_failed_is_missed_too():
    (outcome,) = told([arm("torch", FIRST, 1.0)], CONV, not_run=[failed("numba", FIRST)])
    assert (outcome.verdict, outcome.threads) == ("MISSED", None)


def test_a_shape_that_was_skipped_is_not_counted():
    arms = [arm("numba", FIRST, 0.5), arm("torch", FIRST, 1.0), arm("torch", SECOND, 1.0)]
    (outcome,) = told(arms, CONV, not_run=[failed("numba", SECOND, "skipped")])
    assert (outcome.verdict, outcome.shapes) == ("reached", 1)


def test_winograds_target_is_for_wide_3x3_layers_of_stride_1():
    wide = {name for name, case in ON_CPUS.items() if case.family == "conv2d" and wide_3x3(case)}
    layers = [f"conv2d_resnet18_layer{i}_b{batch}" for batch in (1, 8) for i in (1, 2, 3, 4)]
    assert wide == set(layers)
    arms = [
        arm("winograd", FIRST, 0.5), arm("torch", FIRST, 1.0),
        arm("winograd", "conv2d_cifar_conv2_b32", 9.0), arm("torch", "conv2d_cifar_conv2_b32", 1.0),
    ]  # fmt: skip
    (outcome,) = known(arms)
    assert (outcome.shapes, outcome.mean.value) == (1, pytest.approx(2))


def test_a_whole_network_is_a_target_of_its_own():
    arms = [arm("numba_threads", NETWORK, 1.0, 2), arm("torch", NETWORK, 1.5, 2)]
    (outcome,) = known(arms)
    assert (outcome.target.family, outcome.mean.value) == (NETWORK, pytest.approx(1.5))


def test_every_family_of_the_cases_has_a_target_but_add():
    families = {case.family for case in CASES.values()}
    assert families - {target.family for target in TARGETS} == {"add"}
    assert {target.family for target in TARGETS} - families == {NETWORK}


def test_speedups_over_loops_and_over_one_thread_are_told_beside():
    arms = [
        arm("loops", FIRST, 8.0), arm("numba_threads", FIRST, 2.0, 1),
        arm("numba_threads", FIRST, 1.0, 2),
    ]  # fmt: skip
    lines = against_loops(run_from_json(run_json(arms), "x"))
    assert re.fullmatch(r"conv2d numba_threads, 1 thread +4.000 \[4.000, 4.000\] +–", lines[1])
    assert "8.000 [8.000, 8.000]  2.000 [2.000, 2.000]" in lines[2]


@pytest.mark.parametrize(("seconds", "code"), [(0.5, 0), (1.001, 1)])
def test_the_exit_code_tells_whether_one_is_missed(tmp_path, capsys, seconds, code):
    arms = [arm("numba", FIRST, seconds), arm("torch", FIRST, 1.0)]
    assert main(saved(tmp_path, arms)) == code
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("conv2d numba, 1 thread"))
    assert f"{1 / seconds:.3f} [" in line
    assert ("MISSED" if code else "reached") in line
    assert CASES[FIRST].title in line
    assert "not measured: conv2d numba_threads, conv2d (3x3, 64 channels" in printed


def test_an_incomplete_run_says_so_first(tmp_path, capsys):
    arms = [arm("numba", FIRST, 0.5), arm("torch", FIRST, 1.0)]
    main(saved(tmp_path, arms, incomplete="interrupted", passes_done=3))
    assert capsys.readouterr().out.startswith("INCOMPLETE RUN: interrupted")


def test_a_run_of_other_benchmarks_is_refused(tmp_path, capsys):
    assert main(saved(tmp_path, [arm_json("test_a", [[1.0]])])) == 4
    assert "has no arm of bench/kernels beside torch's" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["no such file.json"]])
def test_what_is_no_saved_run_is_refused_in_one_line(arguments, capsys):
    assert main(arguments) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("usage: ", "targets: no such file.json: "))
