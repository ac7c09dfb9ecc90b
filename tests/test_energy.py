"""Power is read around whole blocks, from made-up counters, and is never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from conftest import FAKED, Measure, timed

# fixture: before any run inside, as pytester forgets what is imported there first
from pytest_speedup import energy, fixture
from pytest_speedup.costs import energy as joules_of_a_call
from pytest_speedup.costs import no_power, power
from pytest_speedup.energy import Board, Meter, NoMeter, Rapl, meter_of, metered
from pytest_speedup.nvml import Nvml, NvmlError
from pytest_speedup.reading import arm_from_benchmark
from pytest_speedup.records import RecordError
from tests.run_files import arm_json


class Counter:
    """A meter that tells what it is given."""

    source = "made up"

    def __init__(self, readings: Sequence[list[float]], span: float = 100.0) -> None:
        self.span = span
        self._readings = iter(readings)

    def read(self) -> list[float]:
        return next(self._readings)


class Library:
    """NVML, made up: one board that took 5 J."""

    def __init__(self, refuses: str = "") -> None:
        self._refuses = refuses

        def told(code: int) -> bytes:
            return {3: b"Not Supported"}[code]

        self.nvmlErrorString = told

    def __getattr__(self, name: str):
        def call(*arguments: object) -> int:
            if name == "nvmlDeviceGetTotalEnergyConsumption":
                arguments[1]._obj.value = 5000  # type: ignore[attr-defined]
            if name == "nvmlDeviceGetHandleByUUID":
                assert arguments[0].value == b"GPU-12-34"  # type: ignore[attr-defined]
            return 3 if name == self._refuses else 0

        return call


def package(root: Path, number: str, name: str, microjoules: int | str) -> None:
    zone = root / f"intel-rapl:{number}"
    zone.mkdir()
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")


def block(meter: Meter | NoMeter, seconds: float = 0.5) -> energy.Power:
    clock = iter([10.0, 10.0 + seconds])
    with metered(meter, lambda: next(clock)) as told:
        assert told.watts is None
    return told


def test_power_is_the_counters_difference_over_the_blocks_seconds() -> None:
    assert block(Counter([[3.0, 1.0], [8.0, 2.0]])).watts == pytest.approx(12)


def test_a_counter_that_passed_its_end_began_at_zero_again() -> None:
    assert block(Counter([[99.0, 1.0], [4.0, 1.0]])).watts == pytest.approx(10)


@pytest.mark.parametrize(
    ("meter", "seconds", "why"),
    [
        (NoMeter("no counter"), 0.5, "no counter"),
        (Counter([[3.0], [3.0]]), 0.5, "made up: the counter stood still"),
        (Counter([[3.0], [4.0]]), 0.1, "a block of less than 0.2 s is too short"),
    ],
)
def test_without_a_reading_there_is_a_reason_and_no_number(
    meter: Meter | NoMeter, seconds: float, why: str
) -> None:
    told = block(meter, seconds)
    assert told.watts is None
    assert told.missing is not None
    assert told.missing.startswith(why)


def test_rapl_counts_packages_alone(tmp_path: Path) -> None:
    for number, name in {"0": "package-0", "1": "package-1", "2": "psys", "0:0": "core"}.items():
        package(tmp_path, number, name, 2_500_000)
    assert Rapl(tmp_path).read() == [2.5, 2.5]


def test_rapl_that_is_not_there_or_holds_no_number_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no processor package"):
        Rapl(tmp_path)
    package(tmp_path, "0", "package-0", "?")
    with pytest.raises(OSError, match="holds no number"):
        Rapl(tmp_path)


def test_a_board_is_asked_by_its_uuid_in_millijoules() -> None:
    assert Board(Nvml(Library()), "12-34").read() == [5.0]


@pytest.mark.parametrize("refuses", ["nvmlInit_v2", "nvmlDeviceGetTotalEnergyConsumption"])
def test_what_nvml_refuses_is_told_in_its_words(refuses: str) -> None:
    with pytest.raises(NvmlError, match=f"{refuses} failed: Not Supported"):
        Board(Nvml(Library(refuses)), "12-34")


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:9", "mps", "xpu:0"])
def test_every_device_has_a_meter_or_a_reason(device: str) -> None:
    found = meter_of(device)
    assert found.reason if isinstance(found, NoMeter) else found.read()


BODY = "from fake_clock import spend\ndef test_x(speedup):\n    speedup(spend, 0.1, expected=None)"


def test_every_pass_keeps_the_power_of_its_block(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(energy, "meter_of", lambda _: Counter([[i * 7.0] for i in range(9)]))
    ticking = partial(metered, clock=lambda: float(next(times)))
    monkeypatch.setattr(fixture, "metered", ticking)
    _, data = measure(BODY, *FAKED, "--speedup-passes=2")
    assert timed(data)["test_x"]["power"] == {
        "source": "made up", "watts": [7.0, 7.0], "missing": None,
    }  # fmt: skip


def test_an_arm_with_a_setup_has_no_power(measure: Measure) -> None:
    body = BODY.replace("expected=None", "expected=None, setup=lambda: None")
    _, data = measure(body.replace(", 0.1", "").replace("spend,", "lambda: spend(1),"), *FAKED)
    told = timed(data)["test_x"]["power"]
    assert (told["watts"], told["missing"]) == (
        None, "the setup before each call would be counted too",
    )  # fmt: skip


def test_joules_of_a_call_are_taken_within_passes() -> None:
    watts = {"source": "made up", "watts": [100, None, 300], "missing": None}
    arm = arm_from_benchmark(arm_json("test_a", [[0.1], [9.0], [0.2]], power=watts))
    told = joules_of_a_call(arm), power(arm)
    assert [each.value for each in told if each] == [pytest.approx(35), 200]
    assert no_power(arm) is None


@pytest.mark.parametrize("watts", [[1.0], [1.0, 0], [1.0, -2], [1.0, "2"], "1"])
def test_power_that_cannot_be_is_refused(watts: object) -> None:
    saved = arm_json("test_a", [[0.1], [0.1]], power={"watts": watts})
    with pytest.raises(RecordError, match="watts"):
        arm_from_benchmark(saved)
