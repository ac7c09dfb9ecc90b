"""What a run says of its arms: which base, which speedup, and what it withholds and why."""

from __future__ import annotations

import pytest

from pytest_speedup.analysis import analyse
from pytest_speedup.reading import run_from_json
from tests.run_files import (
    SERIAL_FRACTION,
    SERIAL_SECONDS,
    arm_json,
    make_run_json,
    run_json,
    steady,
)

FILE = "bench/inference/test_made_up.py"


def sweep(seconds_by_workers, function="test_pool", axis="threads", **speedup):
    base = f"{FILE}::{function}[{axis}=1]"
    more = {"axis": axis, "base": base, "usable_cpus": 8} | speedup
    return [
        arm_json(f"{function}[{axis}={p}]", steady(seconds), params={axis: p}, workers=p, **more)
        for p, seconds in seconds_by_workers.items()
    ]


def analysed(*benchmarks, **run):
    return analyse(run_from_json(run_json(benchmarks, **run), "run.json"))


def group_of(*benchmarks, **run):
    (group,) = analysed(*benchmarks, **run).groups
    return group


def by_name(group):
    return {result.arm.name: result for result in group.results}


@pytest.fixture
def exact():
    """The whole made-up run without noise, on a machine with 8 usable CPUs."""
    data = make_run_json(noise=0, usable_cpus=8)
    (group,) = analyse(run_from_json(data, "run.json")).groups
    return group


def test_relative_speedup_is_the_law_that_made_the_times(exact):
    for result in exact.series[1].results:
        p = result.arm.workers
        truth = 1 / (SERIAL_FRACTION + (1 - SERIAL_FRACTION) / p)
        assert result.relative.value == pytest.approx(truth)
        assert result.relative_base.name == "test_thread_pool[threads=1]"
        assert result.efficiency.value == pytest.approx(truth / p)


def test_karp_flatt_and_amdahl_find_the_serial_fraction(exact):
    pool = exact.series[1]
    assert pool.serial_fraction.value == pytest.approx(SERIAL_FRACTION)
    assert pool.results[0].karp_flatt is None
    for result in pool.results[1:]:
        assert result.karp_flatt.value == pytest.approx(SERIAL_FRACTION)


def test_time_and_throughput_are_of_one_call(exact):
    serial = by_name(exact)["test_serial"]
    assert serial.time.value == pytest.approx(SERIAL_SECONDS * 1.15)
    assert serial.throughput.value == pytest.approx(16 / serial.time.value)
    assert serial.throughput.low == pytest.approx(16 / serial.time.high)


def test_absolute_base_is_the_fastest_serial_arm(exact):
    assert exact.serial_base.name == "test_batched[batch_size=8]"
    serial = by_name(exact)["test_serial"]
    assert serial.absolute.value == pytest.approx(0.70 / 0.80)
    assert serial.absolute_base is exact.serial_base


def test_absolute_base_is_never_an_arm_that_is_not_serial():
    group = group_of(
        arm_json("test_serial", steady(2.0), serial=True),
        arm_json("test_reduced", steady(1.0)),
        arm_json("test_squeezed", steady(0.5), serial=True, cpus=4),
    )
    assert group.serial_base.name == "test_serial"
    assert by_name(group)["test_reduced"].absolute.value == pytest.approx(2)


def test_a_group_without_serial_arm_says_so():
    (result,) = group_of(arm_json("test_a", steady(1.0))).results
    assert result.absolute is None
    assert result.no_absolute == "no serial arm in this group has a time"


def test_batch_axis_has_a_relative_speedup_and_no_efficiency(exact):
    batched = exact.series[2]
    assert not batched.counts_workers
    assert batched.results[-1].relative.value == pytest.approx(0.80 / 0.70)
    assert {(r.efficiency, r.karp_flatt) for r in batched.results} == {(None, None)}
    assert batched.serial_fraction is None


def test_oversubscribed_points_carry_no_efficiency_and_stay_out_of_the_fit():
    (group,) = analyse(run_from_json(make_run_json(usable_cpus=2), "x")).groups
    pool = group.series[1]
    assert [r.efficiency is None for r in pool.results] == [False, False, True, True]
    assert [r.karp_flatt is None for r in pool.results] == [True, False, True, True]
    assert all(result.relative is not None for result in pool.results)
    assert pool.serial_fraction is None


def test_a_fit_ignores_how_slow_the_oversubscribed_points_are():
    times = {1: 1.0, 2: 0.55, 4: 0.325, 8: 5.0}
    group = group_of(*sweep(times, usable_cpus=4))
    assert group.series[0].serial_fraction.value == pytest.approx(0.1)


def test_an_arm_that_lost_its_base_says_so(exact):
    orphan = by_name(exact)["test_process_pool[processes=2]"]
    assert orphan.relative is None
    assert orphan.relative_base is None
    assert orphan.no_relative == "its base test_process_pool[processes=1] has no time (failed)"
    assert orphan.efficiency is None
    assert orphan.absolute is not None


def test_a_base_of_another_run_is_called_absent():
    _, two = sweep({1: 2.0, 2: 1.0})
    (result,) = group_of(two).results
    assert result.no_relative == "its base test_pool[threads=1] is not in this run"


@pytest.mark.parametrize(
    ("axis", "value", "reason"),
    [
        (None, 4, "no axis"),
        ("threads", 4, "no arm with threads=1 in this series"),
        ("device", "cuda", "device is no number"),
    ],
)
def test_an_arm_that_never_had_a_base_says_why(axis, value, reason):
    arm = arm_json("test_a[x]", steady(1.0), params={axis or "p": value}, axis=axis)
    (result,) = group_of(arm).results
    assert result.no_relative == reason


def test_another_device_is_a_ratio_and_no_speedup(exact):
    cuda = by_name(exact)["test_device[device=cuda]"]
    assert cuda.device_ratio
    assert cuda.absolute.value == pytest.approx(0.70 / 0.02)
    assert not any(r.device_ratio for r in exact.results if r.arm.device == "cpu")


def test_a_relative_base_on_another_device_is_refused():
    group = group_of(
        arm_json("test_cpu", steady(1.0)),
        arm_json("test_gpu", steady(0.1), device="cuda:1", base=f"{FILE}::test_cpu"),
        arm_json("test_two", steady(0.1), device="cuda:0", base=f"{FILE}::test_gpu"),
    )
    results = by_name(group)
    assert "no parallel speedup" in results["test_gpu"].no_relative
    assert results["test_two"].relative.value == pytest.approx(1)


def test_a_serial_arm_on_the_cpu_is_the_base_before_one_on_a_device():
    cpu = arm_json("test_cpu", steady(1.0), serial=True)
    cuda = arm_json("test_cuda", steady(0.1), serial=True, device="cuda")
    assert group_of(cpu, cuda).serial_base.name == "test_cpu"
    assert group_of(cuda).serial_base.name == "test_cuda"


def test_weak_scaling_tells_the_scaled_speedup():
    times = {1: 1.0, 2: 1.0, 4: 1.25}
    arms = sweep(times, scaling="weak")
    for arm in arms:
        ours = arm["extra_info"]["speedup"]
        ours["work"] = 10 * ours["workers"]
    (series,) = group_of(*arms).series
    assert [r.relative.value for r in series.results] == pytest.approx([1, 2, 3.2])
    assert [r.efficiency.value for r in series.results] == pytest.approx([1, 1, 0.8])
    assert {r.karp_flatt for r in series.results} == {None}
    assert series.serial_fraction is None


def test_weak_scaling_without_work_has_no_speedup():
    results = group_of(*sweep({1: 1.0, 2: 1.0}, scaling="weak", work=None)).results
    assert "weak scaling needs work=" in results[1].no_relative


def test_without_work_speedup_is_the_ratio_of_times():
    one, two = group_of(*sweep({1: 3.0, 2: 2.0}, work=None, unit="calls")).results
    assert two.relative.value == pytest.approx(1.5)
    assert one.throughput is None


def test_more_work_in_the_same_time_is_a_speedup():
    group = group_of(
        arm_json("test_serial", steady(1.0), serial=True, work=10),
        arm_json("test_other", steady(1.0), work=30),
    )
    assert by_name(group)["test_other"].absolute.value == pytest.approx(3)
    assert group.ranking.fastest.arm.name == "test_other"
    assert group.ranking.lead.value == pytest.approx(3)


@pytest.mark.parametrize("other", [{"unit": "FLOP"}, {"work": None}])
def test_arms_that_count_differently_are_not_compared(other):
    base = arm_json("test_serial", steady(1.0), serial=True)
    plain = arm_json("test_plain", steady(2.0))
    odd = arm_json("test_odd", steady(0.1), base=f"{FILE}::test_serial", **other)
    group = group_of(base, plain, odd)
    result = by_name(group)["test_odd"]
    assert result.relative is None
    assert result.absolute is None
    assert "its base test_serial images" in result.no_relative
    assert "no serial arm in this group states" in result.no_absolute
    assert group.ranking.fastest.arm.name == "test_serial"


def test_efficiency_is_not_told_against_a_base_with_other_cpus_per_worker():
    group = group_of(
        arm_json("test_serial", steady(4.0), serial=True),
        *sweep({2: 1.0}, base=f"{FILE}::test_serial", cpus=4),
    )
    result = by_name(group)["test_pool[threads=2]"]
    assert result.relative.value == pytest.approx(4)
    assert result.efficiency is None


def test_efficiency_is_not_told_against_a_base_of_several_workers():
    two, four = sweep({2: 2.0, 4: 1.0}, base=f"{FILE}::test_pool[threads=2]")
    four["extra_info"]["speedup"]["cpus"] = 8
    result = group_of(two, four).results[1]
    assert result.relative.value == pytest.approx(2)
    assert result.efficiency is None


def test_efficiency_counts_workers_of_several_threads_each():
    one, two = sweep({1: 2.0, 2: 1.0})
    for arm in (one, two):
        arm["extra_info"]["speedup"]["cpus"] *= 2
    assert group_of(one, two).results[1].efficiency.value == pytest.approx(1)


def test_no_worker_at_all_has_a_relative_speedup_and_no_efficiency():
    none, one = sweep({0: 1.5, 1: 2.0})
    none["extra_info"]["speedup"] |= {"workers": 1, "cpus": 1}
    group = group_of(none, one)
    result = by_name(group)["test_pool[threads=0]"]
    assert result.efficiency is None
    assert by_name(group)["test_pool[threads=1]"].efficiency.value == pytest.approx(1)


def test_an_interrupted_run_pairs_the_passes_that_it_has():
    one, two = sweep({1: 2.0, 2: 1.0})
    two["extra_info"]["speedup"]["blocks"] = steady(1.0, 2)
    result = group_of(one, two, incomplete="interrupted", passes_done=2).results[1]
    assert (result.relative.value, result.relative.n) == (pytest.approx(2), 2)
    assert result.relative.low is None


def test_a_single_arm_is_a_group():
    group = group_of(arm_json("test_a", steady(1.0)))
    assert group.ranking.fastest.arm.name == "test_a"
    assert group.ranking.runner_up is group.ranking.lead is group.ranking.tie is None
    assert group.noise is None


def test_an_empty_run_has_no_groups():
    assert analysed().groups == ()


def test_a_group_that_lost_all_its_arms_still_says_why():
    lost = {"fullname": "f::test_a", "group": "g", "reason": "no CUDA", "kind": "skipped"}
    nowhere = lost | {"group": None}
    result = analysed(not_run=[lost, nowhere])
    (group,) = result.groups
    assert (group.name, group.results, group.series, group.ranking.fastest) == ("g", (), (), None)
    assert [each.reason for each in group.not_run] == ["no CUDA"]
    assert len(result.not_run) == 1


def test_groups_keep_their_order_and_their_bases_apart():
    fast = arm_json("test_a", steady(1.0), group="second", serial=True)
    slow = arm_json("test_b", steady(2.0), group="first", serial=True)
    groups = analysed(fast, slow).groups
    assert [group.name for group in groups] == ["second", "first"]
    assert [group.results[0].absolute.value for group in groups] == [1, 1]


def test_every_arm_is_in_exactly_one_series(exact):
    placed = [result.arm.fullname for series in exact.series for result in series.results]
    assert sorted(placed) == sorted(result.arm.fullname for result in exact.results)


@pytest.mark.parametrize(
    ("scaling_of", "work", "told"),
    [("strong", 10, True), ("strong", 20, False), ("weak", 20, True), ("weak", 10, False)],
)
def test_work_that_contradicts_the_scaling_has_no_efficiency(scaling_of, work, told):
    def arm(workers, work):
        return arm_json(
            f"test_pool[workers={workers}]",
            steady(1.0),
            params={"workers": workers},
            axis="workers",
            workers=workers,
            cpus=workers,
            work=work,
            scaling=scaling_of,
            base="bench/inference/test_made_up.py::test_pool[workers=1]",
        )

    group = group_of(arm(1, 10), arm(2, work))
    two = group.results[1]
    assert two.relative is not None
    assert (two.efficiency is not None) is told
    assert (two.no_efficiency is None) is told


def test_a_noise_floor_that_another_arm_took_over_counts_the_passes_it_has():
    group = group_of(
        arm_json("test_a", [[1.0]] * 5, repeat=[None, None, [1.1], [1.1], [1.1]]),
    )
    assert group.noise.n == 3
    assert group.noise.value == pytest.approx(1.1)
