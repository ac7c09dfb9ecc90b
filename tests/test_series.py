"""Which arms lie on one line, in what order, and what the line is called."""

from __future__ import annotations

import math

import pytest

from pytest_speedup.reading import arm_from_benchmark
from pytest_speedup.series import counts_workers, split
from tests.run_files import arm_json

FILE = "bench/inference/test_made_up.py"


def arm(function, file=FILE, axis="threads", **params):
    values = "-".join(map(str, params.values()))
    name = f"{function}[{values}]" if params else function
    return arm_from_benchmark(arm_json(name, [[1.0]], file=file, params=params, axis=axis))


def labels(*arms):
    return [label for label, _ in split(arms)]


def test_a_series_lies_along_its_axis_whatever_the_order_of_the_tests():
    ((_, line),) = split([arm("test_pool", threads=p) for p in (8, 1, 2)])
    assert [each.params["threads"] for each in line] == [1, 2, 8]


def test_an_axis_of_names_keeps_the_order_of_the_tests():
    devices = ("mps", "cpu", "cuda")
    ((_, line),) = split([arm("test_device", axis="device", device=name) for name in devices])
    assert tuple(each.params["device"] for each in line) == devices


def test_only_whole_numbers_beside_batches_count_workers():
    assert counts_workers(arm("test_a", threads=2))
    assert counts_workers(arm("test_a", axis="streams", streams=2))
    assert not counts_workers(arm("test_a", axis="batch_size", batch_size=2))
    assert not counts_workers(arm("test_a", axis="device", device="cpu"))
    assert not counts_workers(arm("test_a", axis="share", share=0.5))
    assert not counts_workers(arm("test_a", axis="flag", flag=True))
    assert not counts_workers(arm("test_a", axis=None))


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, True, "4", None])
def test_an_axis_without_a_place_on_a_line_keeps_the_order_of_the_tests(value):
    arms = [arm("test_a", threads=p) for p in (8, value, 2)]
    assert split(arms) == [("a", arms)]


def test_labels_name_the_parameters_that_tell_series_apart():
    grid = [
        arm("test_grid", batch_size=batch, threads=p, model="resnet18")
        for batch in (1, 8)
        for p in (1, 2)
    ]
    serial = arm("test_serial", axis=None, model="resnet18")
    assert labels(*grid, serial) == ["grid batch_size=1", "grid batch_size=8", "serial"]


def test_a_parameter_that_only_some_tests_of_a_name_have_is_named():
    some = arm("test_a", file="one.py", axis=None, size=3)
    other = arm("test_a", file="two.py", axis=None)
    assert labels(some, other) == ["a size=3", "a"]


def test_arms_without_axis_are_series_of_their_own():
    models = ("lenet", "resnet18")
    assert labels(*(arm("test_a", axis=None, model=m) for m in models)) == [
        "a model=lenet",
        "a model=resnet18",
    ]


def test_two_tests_of_one_name_are_two_series():
    here = [arm("test_pool", threads=p) for p in (1, 2)]
    there = [arm("test_pool", file="other.py", threads=p) for p in (1, 2)]
    (first, own), (second, others) = split([*here, *there])
    assert (first, second) == (f"pool ({FILE}::test_pool)", "pool (other.py::test_pool)")
    assert (own, others) == (here, there)
