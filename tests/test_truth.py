"""Claims about the measuring itself: workloads whose speedup is known are measured rightly."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from conftest import FAKED, Measure, timed
from pytest_speedup.analysis import GroupResult, analyse
from pytest_speedup.reading import read_run

SLEEPING = """
    import time
    from concurrent.futures import ThreadPoolExecutor
    import pytest
    TOTAL = 0.1
    @pytest.mark.speedup(axis="threads")
    @pytest.mark.parametrize("threads", [1, 2, 4])
    @pytest.mark.parametrize("serial", [0.0, 0.1, 0.5])
    def test_sleep(speedup, serial, threads):
        with ThreadPoolExecutor(threads) as pool:
            def call():
                time.sleep(serial * TOTAL)
                parts = [(1 - serial) * TOTAL / threads] * threads
                return len(list(pool.map(time.sleep, parts)))
            # asleep, not at work: it needs no CPU, however many threads there are
            speedup(call, expected=threads, work=1, unit="naps", cpus=1)
"""


def groups(folder: Path) -> tuple[GroupResult, ...]:
    return analyse(read_run(folder / "run.json")).groups


def test_sleeping_workloads_have_the_speedup_of_amdahls_law(
    measure: Measure, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_speedup.fixture.SAMPLE_SECONDS", 0.1)
    monkeypatch.setattr("pytest_speedup.fixture.BLOCK_SECONDS", 0.2)
    result, _ = measure(SLEEPING, "--speedup-no-plots")
    result.assert_outcomes(passed=9)
    (group,) = groups(pytester.path)
    for one in group.results:
        serial, threads = one.arm.params["serial"], one.arm.params["threads"]
        assert isinstance(serial, float)
        assert isinstance(threads, int)
        truth = 1 / (serial + (1 - serial) / threads)
        assert one.relative is not None
        assert one.relative.low is not None
        assert one.relative.high is not None
        # a sleep overshoots by a tenth of a millisecond, on a busy machine by several: of 25 ms
        assert one.relative.low * 0.9 <= truth <= one.relative.high * 1.25


def test_amdahls_serial_fraction_is_found_again(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    for serial in (0.0, 0.1, 0.5):
        measure(
            f"""
            import pytest
            from fake_clock import spend
            @pytest.mark.speedup(axis="threads")
            @pytest.mark.parametrize("threads", [1, 2, 4, 8])
            def test_work(speedup, threads):
                seconds = 0.1 * ({serial} + (1 - {serial}) / threads)
                speedup(lambda: spend(seconds, noise=0.05), expected=None, work=1, cpus=1)
            """,
            *FAKED, "--speedup-passes=7", "--speedup-seed=1",
        )  # fmt: skip
        ((series,),) = (group.series for group in groups(pytester.path))
        fit = series.serial_fraction
        assert fit is not None
        assert fit.value == pytest.approx(serial, abs=0.02)


DRIFTING = """
    import atexit
    import pytest
    import fake_clock
    from fake_clock import spend
    fake_clock.DRIFT[0] = {drift}
    @pytest.fixture(scope="session", autouse=True)
    def tell_total():
        yield
        open("total", "w").write(str(fake_clock.now()))
    @pytest.mark.benchmark(group="g")
    def test_slow({fixture}):
        {fixture}(spend, 0.3{expected})
    @pytest.mark.benchmark(group="g", )
    def test_fast({fixture}):
        {fixture}(spend, 0.2{expected})
"""


def drifting_ratio(measure: Measure, pytester: pytest.Pytester, fixture: str) -> float:
    """slow / fast as measured on a machine that gets 30 % slower while it is measured."""
    expected = ", expected=None" if fixture == "speedup" else ""
    options = (*FAKED, "--speedup-passes=10", "--benchmark-max-time=40")
    measure(DRIFTING.format(drift=0.0, fixture=fixture, expected=expected), *options)
    total = float((pytester.path / "total").read_text())
    # dT/dt = 1 + drift * T reaches 1.3 after `total` seconds of undisturbed work
    drift = 0.2624 / total
    _, data = measure(DRIFTING.format(drift=drift, fixture=fixture, expected=expected), *options)
    slowed = 1 + drift * float((pytester.path / "total").read_text())
    assert slowed == pytest.approx(1.3, abs=0.03)
    if fixture == "speedup":
        (group,) = groups(pytester.path)
        assert group.ranking.lead is not None
        return group.ranking.lead.value
    medians = {b["name"]: statistics.median(b["stats"]["data"]) for b in data["benchmarks"]}
    return medians["test_slow"] / medians["test_fast"]


def test_a_drifting_machine_does_not_change_the_ratio(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    one_after_another = drifting_ratio(measure, pytester, "benchmark")
    in_turns = drifting_ratio(measure, pytester, "speedup")
    assert abs(one_after_another / 1.5 - 1) > 0.10
    assert abs(in_turns / 1.5 - 1) < 0.03


def test_the_noise_floor_shows_the_noise(measure: Measure, pytester: pytest.Pytester) -> None:
    source = """
        from fake_clock import spend
        def test_x(speedup):
            speedup(spend, 0.1, {noise}, expected=None)
    """
    reach = []
    for noise in (0.0, 0.5):
        measure(source.format(noise=noise), *FAKED, "--speedup-passes=9")
        (group,) = groups(pytester.path)
        assert group.noise is not None
        assert group.noise.high is not None
        assert group.noise.low is not None
        reach.append(group.noise.high / group.noise.low)
    assert reach[0] == pytest.approx(1.0, abs=1e-4)
    assert reach[1] > 1.03


def test_a_difference_inside_the_noise_is_a_tie(measure: Measure) -> None:
    source = """
        import pytest
        from fake_clock import spend
        pytestmark = pytest.mark.benchmark(group="g")
        def test_a(speedup):
            speedup(spend, 0.1, 0.3, expected=None)
        def test_b(speedup):
            speedup(spend, {seconds}, 0.3, expected=None)
    """
    result, _ = measure(source.format(seconds=0.1), *FAKED, "--speedup-seed=3")
    result.stdout.fnmatch_lines(["tie: a and b*"])
    result, _ = measure(source.format(seconds=0.2), *FAKED, "--speedup-seed=3")
    result.stdout.no_fnmatch_line("tie:*")
    result.stdout.fnmatch_lines(["fastest*: a, *"])


def test_blocks_of_one_pass_are_paired(measure: Measure) -> None:
    _, data = measure(
        """
        import pytest
        from fake_clock import spend
        TURN = {"a": 0, "b": 0}
        @pytest.mark.benchmark(group="g")
        @pytest.mark.parametrize("name", ["a", "b"])
        def test_x(speedup, name):
            TURN[name] += 1
            speedup(spend, 0.1 * TURN[name], expected=None)
        """,
        *FAKED, "--speedup-passes=3",
    )  # fmt: skip
    arms = timed(data)
    assert [round(block[0], 3) for block in arms["test_x[name=b]"]["blocks"]] == [0.1, 0.2, 0.3]
