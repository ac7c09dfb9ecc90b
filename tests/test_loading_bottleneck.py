"""Who holds the training back, read from made-up runs."""

from __future__ import annotations

import json

import pytest

from bench.loading.bottleneck import all_together, best_loaders, main
from pytest_speedup.reading import run_from_json
from tests.run_files import arm_json, run_json

DRIFT = (1.0, 1.3, 0.7, 2.0, 1.1)
"""How much slower the made-up machine is in each pass."""


def arm(strategy, seconds, cpus=1, noise=(1, 1, 1, 1, 1), **params):
    values = "-".join(f"{name}={value}" for name, value in params.items())
    return arm_json(
        f"test_{strategy}[{values}]" if params else f"test_{strategy}",
        [[seconds * slower * more] for slower, more in zip(DRIFT, noise, strict=True)],
        file=f"bench/loading/test_{strategy}.py",
        group="loading",
        params=params,
        cpus=cpus,
    )


def loader(strategy, seconds, cpus=1, file_cache="warm", **params):
    return arm(strategy, seconds, cpus, file_cache=file_cache, **params)


def run_of(*arms):
    return run_from_json(run_json(arms), "made up")


def saved(tmp_path, *arms):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_json(arms)))
    return [str(path)]


STEPS = arm("train_cached", 0.8, cpus=2)
LOOP = loader("loop", 0.4)
POOL = loader("thread_pool", 0.2, cpus=2, threads=2)


def test_the_best_loader_is_told_against_the_plain_loop_and_the_cpus():
    (best,) = best_loaders(run_of(LOOP, loader("pool_map", 0.25, 2, processes=2), POOL))
    assert best.loader.strategy == "thread_pool"
    assert best.gain.value == pytest.approx(2.0)
    assert best.wanted == pytest.approx(1.8)
    assert best.verdict == "reached"


def test_a_cold_loader_is_told_against_the_cold_loop():
    cold = [loader("loop", 0.8, file_cache="cold"), loader("pool_map", 0.5, 2, "cold", processes=2)]
    warm, best = best_loaders(run_of(LOOP, POOL, *cold))
    assert (warm.state, best.state) == ("warm", "cold")
    assert best.gain.value == pytest.approx(1.6)


def test_more_workers_than_cpus_are_not_the_best_loader():
    (best,) = best_loaders(run_of(LOOP, POOL, loader("thread_pool", 0.1, 4, threads=4)))
    assert best.loader.cpus == 2


def test_the_slower_of_loader_and_steps_holds_the_training_back():
    both = arm("train_thread_pool", 0.9, 2, threads=2)
    (row,) = all_together(run_of(STEPS, POOL, both))
    assert row.slower == "the steps"
    assert row.of_the_slower.value == pytest.approx(0.8 / 0.9)
    (row,) = all_together(run_of(arm("train_cached", 0.1, 2), POOL, both))
    assert row.slower == "loading"
    assert row.of_the_slower.value == pytest.approx(0.2 / 0.9)


def test_what_the_cpus_give_is_the_work_of_both():
    """0.4 s on one CPU and 0.8 s on two are 1 s of both."""
    (row,) = all_together(run_of(STEPS, LOOP, arm("train_loop", 1.2, 2)))
    assert row.of_the_cpus.value == pytest.approx(1.0 / 1.2)
    (row,) = all_together(run_of(arm("train_cached", 0.1, 2), LOOP, arm("train_loop", 0.5, 2)))
    assert row.of_the_cpus.value == pytest.approx(0.4 / 0.5)


def test_a_question_mark_says_that_the_interval_leaves_it_open():
    noisy = arm("train_cached", 0.2, 2, noise=(0.8, 1.1, 1.2, 0.9, 1.05))
    (row,) = all_together(run_of(noisy, POOL, arm("train_thread_pool", 0.3, 2, threads=2)))
    assert row.slower == "the steps?"


def test_loader_and_training_are_matched_by_their_parameters():
    others = [
        loader("thread_pool", 0.4, 1, threads=1),
        loader("thread_pool", 9, 2, "cold", threads=2),
    ]
    rows = all_together(run_of(STEPS, *others, POOL, arm("train_thread_pool", 0.9, 2, threads=2)))
    assert [row.loader.cpus for row in rows] == [2]
    assert rows[0].loader.blocks == tuple((0.2 * slower,) for slower in DRIFT)


def test_a_run_is_told_and_a_missed_target_is_exit_code_1(tmp_path, capsys):
    both = arm("train_thread_pool", 0.9, 2, threads=2)
    assert main(saved(tmp_path, LOOP, POOL, STEPS, both)) == 0
    told = capsys.readouterr().out
    assert "thread_pool threads=2 loads 2.00 [2.00, 2.00] times as fast" in told
    assert "wanted 1.80: reached" in told
    assert "the steps" in told
    assert main(saved(tmp_path, LOOP, loader("thread_pool", 0.3, 2, threads=2))) == 1
    assert "MISSED" in capsys.readouterr().out


def test_out_of_the_cache_there_is_no_target(tmp_path, capsys):
    cold = [loader("loop", 0.8, file_cache="cold"), loader("pool_map", 0.7, 2, "cold", processes=2)]
    assert main(saved(tmp_path, *cold)) == 0
    assert "MISSED" not in capsys.readouterr().out


@pytest.mark.parametrize("arms", [[], [LOOP], [STEPS, arm("train_loop", 1.0, 2)]])
def test_a_run_that_tells_nothing_is_refused(tmp_path, capsys, arms):
    assert main(saved(tmp_path, *arms)) == 4
    assert "no loader beside the plain loop" in capsys.readouterr().err


def test_a_file_that_is_no_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "none.json")]) == 4
    assert main([]) == 4
    assert "usage" in capsys.readouterr().err
