"""Training's targets, read from made-up runs: which arms are held against each other."""

from __future__ import annotations

import json

import pytest

from bench.training.targets import main, rows
from pytest_speedup.reading import run_from_json
from tests.run_files import arm_json, run_json

DRIFT = (1.0, 1.3, 0.7, 2.0, 1.1)
"""How much slower the made-up machine is in each pass."""


def arm(strategy, seconds, workers=1, **more):
    return arm_json(
        f"test_{strategy}[{workers}]",
        [[seconds * slower] for slower in DRIFT],
        file="bench/training/test_made_up.py",
        group="training cifar_cnn, batch 32, sgd",
        params={"ranks": workers},
        axis="ranks",
        workers=workers,
        **more,
    )


def found(*arms):
    """The name of each row -> its gain and its verdict."""
    return {
        row.name: (pytest.approx(row.gain.value), row.verdict)
        for row in rows(run_from_json(run_json(arms), "made up"))
    }


def test_ranks_are_told_against_as_many_that_do_not_communicate():
    told = found(arm("mpi", 0.8, 2), arm("independent", 0.6, 2), arm("independent", 1.0))
    assert told == {"mpi[2] / independent": (0.75, "MISSED")}


def test_the_hybrid_is_told_against_pytorchs_best_arm_on_cpus_in_full_precision():
    told = found(
        arm("hybrid", 0.5, 2),
        arm("hybrid", 0.4, 4),  # oversubscribed
        arm("torch_intra_op", 0.8, 2),
        arm("torch_channels_last", 0.75, 2),
        arm("amp", 0.1),
        arm("amp_cuda", 0.01, device="cuda"),
        arm("ddp_cuda", 0.01, device="cuda"),
    )
    assert told == {"hybrid[2] / torch_channels_last[2]": (1.5, "reached")}


def test_one_process_of_ddp_is_told_against_none():
    told = found(arm("ddp", 1.25), arm("torch_serial", 1.0))
    assert told == {"ddp[1] / torch_serial[1]": (0.8, "")}


@pytest.mark.parametrize(("seconds", "code"), [(0.5, 0), (0.7, 1)])
def test_the_exit_code_tells_whether_a_target_is_missed(tmp_path, capsys, seconds, code):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_json([arm("hybrid", seconds), arm("torch_serial", 0.75)])))
    assert main([str(path)]) == code
    assert ("MISSED" if code else "reached") in capsys.readouterr().out


def test_a_run_without_two_arms_to_compare_is_refused(tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_json([arm("mpi", 1.0)])))
    assert main([str(path)]) == 4
    assert "has no two arms of bench/training to compare" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["no such file.json"]])
def test_what_is_no_saved_run_is_refused_in_one_line(arguments, capsys):
    assert main(arguments) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("usage: ", "targets: no such file.json: "))
