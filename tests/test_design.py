"""What a design costs is told by its author, kept, and refused where it cannot be true."""

from __future__ import annotations

import math
import re
import sys
import types

import numpy as np
import pytest

from conftest import FAKED, Measure, timed
from pytest_speedup import costs
from pytest_speedup.accelerators import accelerators
from pytest_speedup.analysis import analyse
from pytest_speedup.design import FACTS, checked
from pytest_speedup.reading import arm_from_benchmark, run_from_json
from pytest_speedup.records import RecordError
from pytest_speedup.table import render
from tests.run_files import arm_json, run_json

DESIGN = {"launches": 3, "launch_seconds": 4e-6, "occupancy": 0.5, "bytes": 1_000_000, "flop": 4e6}


def test_facts_are_kept_as_plain_numbers() -> None:
    told = checked({"launches": np.int64(3), "occupancy": np.float32(0.5)})
    assert told == {"launches": 3, "occupancy": 0.5}
    assert [type(each) for each in told.values()] == [int, float]
    assert checked(None) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("launches", value) for value in (0, -1, 1.5, True, "3", None, math.inf, math.nan)),
        *(("occupancy", value) for value in (0, 1.01, math.nan, np.bool_(True))),
        *(("launch_seconds", value) for value in (0, -1e-6, 60)),
        *(("bytes", 0), ("flop", 10**400), ("shared_bytes", -1)),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_is_allowed(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^design: {name} \(.+\) must be an? .*number .+, got"):
        checked({name: value})


def test_a_name_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match='design has no "launch"; it can tell launches, launch_s'):
        checked({"launch": 1})
    with pytest.raises(TypeError, match="a mapping of names to numbers, got a list of 1"):
        checked([3])  # type: ignore[arg-type]


def test_the_fixture_writes_it_down_and_the_table_shows_it(measure: Measure) -> None:
    result, data = measure(
        f"""
        from fake_clock import spend
        def test_x(speedup):
            speedup(spend, 0.1, expected=None, design={DESIGN!r})
        """,
        *FAKED,
    )
    assert timed(data)["test_x"]["design"] == DESIGN
    result.stdout.fnmatch_lines(["by design, not measured: x launches=3, launch_seconds=4e-06*"])


def test_a_wrong_design_is_red_before_anything_is_timed(measure: Measure) -> None:
    result, data = measure(
        """
        def test_x(speedup):
            speedup(lambda: None, expected=None, design={"occupancy": 50})
        """,
        *FAKED,
    )
    result.assert_outcomes(failed=1)
    assert not timed(data)


def test_what_follows_from_it_and_the_time() -> None:
    (row,) = (
        analyse(run_from_json(run_json([arm_json("test_a", [[1e-4]] * 5, design=DESIGN)]), "x"))
        .groups[0]
        .results
    )
    share, traffic = costs.launch_share(row), costs.traffic(row)
    assert share is not None
    assert traffic is not None
    assert (share.value, traffic.value) == (pytest.approx(0.12), pytest.approx(1e10))
    assert costs.intensity(row.arm) == 4


def test_a_saved_design_is_held_to_the_same_and_later_names_are_passed_over() -> None:
    arm = arm_from_benchmark(arm_json("test_a", [[1.0]], design={"launches": 2, "later": "x"}))
    assert arm.design == {"launches": 2}
    assert arm_from_benchmark(arm_json("test_a", [[1.0]])).design == {}
    with pytest.raises(RecordError, match=r"design: .*occupancy"):
        arm_from_benchmark(arm_json("test_a", [[1.0]], design={"occupancy": 2}))


def test_a_devices_own_peak_is_named_by_the_device() -> None:
    arm = arm_json("test_a", [[0.5]] * 5, work=1e9, unit="B", peak=2.5e12, device="cuda:0")
    assert "of peak: vs 2.50 TB/s on cuda:0" in render(analyse(run_from_json(run_json([arm]), "x")))


def test_every_fact_says_what_it_means() -> None:
    assert all(fact.meaning and fact.takes(1) for fact in FACTS.values())


def test_power_stands_in_the_table_of_one_run() -> None:
    power = {"source": "made up", "watts": [50.0] * 5, "missing": None}
    saved = run_json(
        [arm_json("test_a", [[0.2]] * 5, power=power), arm_json("test_b", [[1.0]] * 5)]
    )
    text = render(analyse(run_from_json(saved, "x")), width=140)
    assert re.search(r"power, W +energy, J", text)
    assert "50.0 [50.0, 50.0]" in text
    assert "10.0 [10.0, 10.0]" in text


def test_devices_are_told_where_torch_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = types.SimpleNamespace(total_memory=2**37, major=9, minor=0, multi_processor_count=132)
    cuda = types.SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        get_device_name=lambda _: "Made-up GPU",
        get_device_properties=lambda _: sizes,
    )
    mps = types.SimpleNamespace(is_available=lambda: True)
    torch = types.SimpleNamespace(cuda=cuda, backends=types.SimpleNamespace(mps=mps))
    monkeypatch.setitem(sys.modules, "torch", torch)
    told = accelerators("Apple M2")
    assert told["cuda:0"]["name"] == "Made-up GPU"
    assert told["cuda:0"]["memory_gib"] == 128
    assert told["cuda:0"]["compute_capability"] == "9.0"
    assert told["mps"]["name"] == "Apple M2 GPU"


def test_a_call_that_repeats_its_work_is_told_as_one(measure):
    _, saved = measure(
        """
        import pytest
        from fake_clock import spend

        class Thrice:
            repeats = 3

            def __call__(self):
                spend(0.3)
                return 1

        @pytest.mark.speedup
        def test_thrice(speedup):
            speedup(Thrice(), expected=1, work=2, unit="items")
        """,
        *FAKED,
    )
    (arm,) = timed(saved).values()
    assert all(
        seconds == pytest.approx(0.1, rel=1e-3) for block in arm["blocks"] for seconds in block
    )
    assert arm["iterations"] % 3 == 0


@pytest.mark.parametrize("said", [0, -1, 1.5, True, "3"])
def test_repeats_that_are_no_count_are_refused(said):
    from pytest_speedup.stated import repeats_of

    class Wrong:
        repeats = said

    with pytest.raises(ValueError, match="repeats must be a whole number of at least 1"):
        repeats_of(Wrong())
