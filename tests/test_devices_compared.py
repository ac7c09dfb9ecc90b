"""Devices side by side: recorded runs of two machines, and made-up ones where nobody had one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_speedup import cli
from pytest_speedup.analysis import Analysis, analyse
from pytest_speedup.comparison import Case, Comparison, compare
from pytest_speedup.estimate import ratio, ratio_apart
from pytest_speedup.reading import read_run, run_from_json
from pytest_speedup.records import RecordError
from pytest_speedup.side_by_side import render
from tests.device_runs import EPYC_START, XEON, XEON_START, made_up_cuda, made_up_metal
from tests.run_files import arm_json, run_json, steady

CASE = "conv2d 64->64 3x3 at 56x56, batch 1"
H200, M2 = "NVIDIA H200 (made up)", "Apple M2 GPU (made up)"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    files = [folder / "made_up_cuda_h200.json", folder / "made_up_metal_m2.json"]
    for file, saved in zip(files, (made_up_cuda(), made_up_metal()), strict=True):
        file.write_text(json.dumps(saved))
    return files


@pytest.fixture(scope="module")
def three(made_up: list[Path]) -> list[Analysis]:
    return [analyse(read_run(file)) for file in (XEON, *made_up)]


def of(saved: dict[str, Any], source: str = "run.json", **machine: Any) -> Analysis:
    saved["machine_info"]["speedup"] |= machine
    return analyse(run_from_json(saved, source))


def compared(*analyses: Analysis, **given: Any) -> Comparison:
    found = compare(analyses, **given)
    assert found is not None
    return found


def case_of(comparison: Comparison, name: str = CASE) -> Case:
    (found,) = (case for case in comparison.cases if case.name == name)
    return found


def fastest(case: Case) -> dict[str, tuple[str, bool]]:
    return {d.name: (e[0].label, e[0].ratio is not None) for d, e in case.entries.items()}


def section(text: str, name: str = CASE) -> list[list[str]]:
    """The cells of the lines under a case's name, up to the next case."""
    after = text.split(f"\n{name}\n\n")[1]
    return [re.split(r"\s{2,}", line) for line in after.split("\n\n")[0].splitlines()]


def test_recorded_runs_of_two_machines_meet_in_the_group_they_share() -> None:
    comparison = compared(*(analyse(read_run(file)) for file in (EPYC_START, XEON_START)))
    assert [device.name for device in comparison.devices] == [
        *("AMD EPYC (2 CPUs)", "Intel Xeon (2 CPUs)")
    ]
    (case,) = comparison.cases
    assert case.name == "start of pytest"
    base, other = (entries[0] for entries in case.entries.values())
    assert (base is case.base, other.apart) == (True, True)
    assert other.ratio == ratio_apart(base.row.arm.blocks, other.row.arm.blocks)
    text = render(comparison, width=120)
    assert "no parallel speedup" in text
    assert "runs made apart: their arms took no turns" in text
    assert "only on AMD EPYC (2 CPUs): harness around calls of 100 ms" in text


def test_each_device_shows_its_fastest_arm_and_its_ratio_to_the_first_devices(
    three: list[Analysis],
) -> None:
    comparison = compared(*three)
    assert len(comparison.cases) == 10
    assert fastest(case_of(comparison)) == {
        "Intel Xeon (2 CPUs)": ("winograd threads=2", False),
        H200: ("cuda", True),
        M2: ("metal", True),
    }


def test_a_row_tells_time_share_of_its_own_peak_ratio_power_and_energy(
    three: list[Analysis],
) -> None:
    head, *rows = section(render(compared(*three), width=160))
    assert head == [
        *("device", "fastest arm", "time, µs", "TFLOP/s", "of peak", "device ratio"),
        *("power, W", "energy, mJ"),
    ]
    xeon, h200, m2 = rows
    assert xeon[5:] == ["base", "–", "–"]
    assert re.fullmatch(r"\d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", h200[5])
    assert h200[6] == "412 [406, 418]"
    assert m2[6:] == ["–", "–"]
    arms = [e[0].row for e in case_of(compared(*three)).entries.values()]
    assert [row[4] for row in rows] == [f"{100 * arm.share.value:.0f} %" for arm in arms]


def test_what_the_designs_cost_stands_in_a_table_of_its_own(three: list[Analysis]) -> None:
    text = render(compared(*three), width=160)
    designs = text.split(f"\n{CASE}\n\n")[1].split("\n\n")[1].splitlines()
    head, h200, m2 = (re.split(r"\s{2,}", line) for line in designs)
    assert head[1:6] == ["by its design", "launches", "each, µs", "of time", "threads"]
    seconds = case_of(compared(*three)).entries[compared(*three).devices[1]][0].row.time.value
    assert h200[:5] == [H200, "cuda", "2", "3.50", f"{100 * 7e-6 / seconds:.0f} %"]
    assert m2[:4] == [M2, "metal", "2", "20.0"]


def test_why_power_is_missing_is_told(three: list[Analysis]) -> None:
    text = " ".join(render(compared(*three), width=120).split())
    assert f"power, idle power included: {H200} by NVML, the whole board" in text
    assert "no power: Intel Xeon (2 CPUs): the run is from before power was kept" in text
    assert f"no power: {M2}: mps has no energy counter that can be read without root" in text


def test_a_device_that_lacks_a_case_has_a_dash(made_up: list[Path], three: list[Analysis]) -> None:
    saved = made_up_metal()
    saved["benchmarks"] = [b for b in saved["benchmarks"] if b["group"] != CASE]
    comparison = compared(*three[:2], of(saved, "made_up_metal.json"))
    assert len(case_of(comparison).entries) == 2
    rows = section(render(comparison, width=160))
    assert rows[-1] == [M2, *["–"] * 7]


def test_arms_of_one_run_took_turns_and_are_compared_within_passes() -> None:
    host, gpu = arm_json("test_a", steady(0.4)), arm_json("test_b", steady(0.1), device="cuda:0")
    comparison = compared(of(run_json([host, gpu]), gpus=[H200]))
    (case,) = comparison.cases
    entry = case.entries[comparison.devices[1]][0]
    assert entry.apart is False
    assert entry.ratio == ratio(steady(0.4), steady(0.1))
    assert "made apart" not in render(comparison)


def test_every_implementation_is_shown_where_that_is_asked(three: list[Analysis]) -> None:
    case = case_of(compared(*three, implementations=True))
    xeon, *_ = case.entries.values()
    assert [entry.row.arm.strategy for entry in xeon][:3] == ["winograd", "torch", "numba_threads"]
    assert all(entry.ratio is None for entry in xeon)


def test_bfloat16_that_a_check_let_through_does_not_stand_for_a_device() -> None:
    check = {"bitwise": False, "max_abs_error": 0.1, "tolerance": None, "check": True, "facts": {}}
    quick = arm_json("test_quick", steady(0.1), verified=check)
    cpu = of(run_json([arm_json("test_a", steady(0.4)), quick]))
    gpu = of(run_json([arm_json("test_b", steady(0.2), device="mps")]), "b.json")
    assert [label for label, _ in fastest(compared(cpu, gpu).cases[0]).values()] == ["a", "b"]


@pytest.mark.parametrize("name", ["mode", "cache", "case"])
def test_arms_that_differ_in_what_is_computed_are_different_cases(name: str) -> None:
    cpu = of(run_json([arm_json("test_a", steady(0.4))]))
    gpu = [
        arm_json(f"test_b[{value}]", steady(0.1), device="cuda", params={name: value})
        for value in ("tf32", "cold")
    ]
    comparison = compared(cpu, of(run_json(gpu), "b.json"))
    assert comparison.cases == ()


def test_an_arm_without_a_mode_is_of_float32() -> None:
    cpu = of(run_json([arm_json("test_a", steady(0.4))]))
    gpu = arm_json("test_b", steady(0.1), device="cuda", params={"mode": "float32"})
    assert len(compared(cpu, of(run_json([gpu]), "b.json")).cases) == 1


def test_files_of_one_device_are_joined_and_an_arm_given_twice_is_refused() -> None:
    def xeon(name: str, seconds: float) -> Analysis:
        return of(run_json([arm_json(name, steady(seconds))]), f"{name}.json", cpu_model="Xeon")

    epyc = of(run_json([arm_json("test_a", steady(1))]), "epyc.json", cpu_model="EPYC")
    comparison = compared(epyc, xeon("test_a", 2), xeon("test_b", 1))
    assert [label for label, _ in fastest(comparison.cases[0]).values()] == ["a", "b"]
    again = r"test_a\.json: is of the same device as epyc\.json \(Xeon .*measures test_a once more"
    epyc_again = of(run_json([arm_json("test_a", steady(3))]), "epyc.json", cpu_model="Xeon")
    with pytest.raises(RecordError, match=again):
        compare([epyc_again, xeon("test_a", 2), epyc])


def test_runs_of_one_machine_are_no_comparison_of_devices() -> None:
    runs = [of(run_json([arm_json("test_a", steady(s))]), f"{s}.json") for s in (1, 2)]
    assert compare(runs) is None


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_no_line_is_wider_than_asked(three: list[Analysis], width: int) -> None:
    assert max(len(line) for line in render(compared(*three), width=width).splitlines()) <= width


def test_no_case_in_common_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plot", str(XEON), str(EPYC_START), "--out", str(tmp_path)]) == 4
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no case in common" in err
    assert not list(tmp_path.iterdir())
    assert cli.main(["table", str(XEON_START), str(XEON)]) == 0
    assert "devices compared" not in capsys.readouterr().out


def test_the_command_prints_the_comparison_and_draws_it(
    tmp_path: Path, made_up: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(file) for file in (XEON, *made_up)]
    assert cli.main(["table", *files]) == 0
    assert "\n\ndevices compared\n" in capsys.readouterr().out
    assert cli.main(["plot", *files, "--out", str(tmp_path), "--pictures", "1"]) == 0
    assert all(path.stem.endswith("all-cases-devices") for path in tmp_path.iterdir())


def test_a_device_twice_beside_another_machine_is_one_line(
    made_up: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = tmp_path / "made_up_cuda_again.json"
    twice.write_text(json.dumps(made_up_cuda()))
    for command in ("table", "plot"):
        assert cli.main([command, str(XEON), str(made_up[0]), str(twice)]) == 4
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "made_up_cuda_again.json: is of the same device as" in err
