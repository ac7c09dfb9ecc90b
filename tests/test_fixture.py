"""Claims about the fixture `speedup`: no time without proof, and samples that are long enough."""

from __future__ import annotations

import sys

import pytest

# Before any run inside: pytester forgets what a test imports first, and torch loads only once.
import torch  # noqa: F401

from conftest import FAKED, Measure, timed
from pytest_speedup.fixture import MAX_ROUNDS, Plan, plan_rounds


def measure_body(measure: Measure, body: str, *options: str) -> tuple[pytest.RunResult, dict]:
    lines = "\n".join(f"            {line}" for line in body.strip().splitlines())
    return measure(
        f"""
        import pytest
        from fake_clock import NOW, spend
        CALLS = []
        def test_x(speedup):
{lines}
        """,
        *FAKED, "--speedup-passes=2", *options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "repeatable", "plan"),
    [
        (0.1, True, Plan(4, 1)),
        (0.3, True, Plan(2, 1)),
        (0.01, True, Plan(4, 10)),
        (1e-6, True, Plan(4, 100_000)),
        (9.0, True, Plan(1, 1)),
        (0.001, False, Plan(MAX_ROUNDS, 1)),
    ],
)
def test_a_sample_is_long_enough(seconds: float, repeatable: bool, plan: Plan) -> None:
    assert plan_rounds(seconds, repeatable=repeatable, block_seconds=0.4) == plan


def test_the_result_is_given_back(measure: Measure) -> None:
    result, _ = measure_body(measure, "assert speedup(lambda: spend(1) or 7, expected=7) == 7")
    result.assert_outcomes(passed=1)


def test_what_was_measured_is_written_down(measure: Measure) -> None:
    _, data = measure_body(
        measure,
        """
def arm(x):
    spend(0.1)
    return x + 1
arm.facts = {"compile_seconds": 1.5}
arm.threads = lambda: {"torch": 3}
speedup(arm, 1, expected=2, work=16, unit="frames", cpus=3)
""",
    )
    arm = timed(data)["test_x"]
    assert arm["blocks"] == [[pytest.approx(0.1, rel=1e-3)] * 4] * 2
    assert arm["repeat"] == [[pytest.approx(0.1, rel=1e-3)] * 4] * 2
    assert arm["first_call"] == pytest.approx(0.1, rel=1e-3)
    assert (arm["work"], arm["unit"], arm["cpus"]) == (16, "frames", 3)
    assert arm["facts"] == {"compile_seconds": 1.5}
    assert arm["threads"] == {"torch": 3}
    assert arm["device"] == "cpu"
    assert arm["verified"] == {
        "bitwise": True, "max_abs_error": 0.0, "tolerance": None, "check": False, "facts": {},
    }  # fmt: skip
    assert "cpu_model" in data["machine_info"]["speedup"]


def test_what_the_machine_gives_is_written_down_and_nothing_where_it_is_not_said(
    measure: Measure,
) -> None:
    _, data = measure_body(
        measure, "speedup(lambda: spend(0.1), expected=None, work=2, unit='B', peak=50)"
    )
    assert timed(data)["test_x"]["peak"] == 50.0
    _, data = measure_body(measure, "speedup(lambda: spend(0.1), expected=None, work=2)")
    assert timed(data)["test_x"]["peak"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("peak=5", "peak is told in items per second: say work too"),
        ("work=1, unit='B', peak=0", "peak must be above 0 B/s and finite, got 0"),
        ("work=1, peak=float('nan')", "peak must be above 0 images/s and finite, got nan"),
    ],
)
def test_a_peak_that_is_none_is_refused(measure: Measure, arguments: str, says: str) -> None:
    result, data = measure_body(measure, f"speedup(lambda: spend(1), expected=None, {arguments})")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{says}*"])
    assert not timed(data)


def test_expected_cannot_be_left_out(measure: Measure) -> None:
    result, data = measure_body(measure, "speedup(lambda: 1)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*missing 1 required keyword-only argument: 'expected'*"])
    assert not timed(data)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("speedup(lambda: spend(0.1) or 2, expected=1)", "off by 1"),
        ("speedup(lambda: spend(0.1) or float('nan'), expected=1.0)", "off by nan"),
        # skips the work, or goes wrong, once it is being timed
        ("speedup(lambda: spend(0.1) or CALLS.append(1) or min(len(CALLS), 3), expected=1)", "off"),
        # returns what it computed for other input
        (
            "cache = {}\n"
            "f = lambda x: spend(0.1) or cache.setdefault('y', x * x)\n"
            "f(2)\n"
            "speedup(f, 3, expected=9)",
            "off by 5",
        ),
        ("speedup(lambda: spend(0.1) or 1, expected=1)\nassert False, 'afterwards'", "afterwards"),
        ("speedup(lambda: 1 / 0, expected=1)", "division by zero"),
        ("speedup(lambda: spend(0.1), expected=lambda result: False)", "returned False"),
        ("speedup(lambda: 1, expected=1, work=0)", "work must be above 0"),
        ("speedup(lambda: 1, expected=1, work=float('inf'))", "work must be above 0"),
        ("speedup(lambda: 1, expected=1, cpus=0)", "cpus must be at least 1"),
        ("speedup(lambda: 1, expected=1, tolerance=3)", "tolerance must be"),
    ],
)
def test_a_wrong_arm_is_red_and_has_no_time(measure: Measure, body: str, says: str) -> None:
    result, data = measure_body(measure, body)
    result.assert_outcomes(failed=1)
    assert not data.get("benchmarks")
    text = result.stdout.str()
    assert says in text
    assert "not run: x" in text or "not run: test_x" in text


def test_arms_that_lost_their_base_say_so(measure: Measure) -> None:
    result, data = measure(
        """
        import pytest
        from fake_clock import spend
        @pytest.mark.speedup(axis="threads")
        @pytest.mark.parametrize("threads", [1, 2])
        def test_pool(speedup, threads):
            speedup(lambda: spend(0.1) or threads, expected=2)
        """,
        *FAKED,
    )
    result.assert_outcomes(passed=1, failed=1)
    assert list(timed(data)) == ["test_pool[threads=2]"]
    result.stdout.fnmatch_lines(["*threads=2*base*threads=1*failed*"])


def test_setup_is_called_before_every_call_and_not_timed(measure: Measure) -> None:
    result, data = measure_body(
        measure,
        """
def setup():
    spend(5)
    return ([len(CALLS)],), {}
def arm(x):
    spend(0.2)
    CALLS.append(x)
    x.append(1)
    return len(x)
speedup(arm, expected=2, setup=setup)
""",
    )
    result.assert_outcomes(passed=1)
    blocks = timed(data)["test_x"]["blocks"]
    assert {round(second, 3) for block in blocks for second in block} == {0.2}


def test_a_plain_benchmark_with_the_marker_gets_speedups(measure: Measure) -> None:
    result, data = measure(
        """
        import pytest
        from fake_clock import spend
        @pytest.mark.benchmark(group="sort")
        @pytest.mark.speedup(axis="workers")
        @pytest.mark.parametrize("workers", [1, 2])
        def test_sort(benchmark, workers):
            benchmark(spend, 0.1 / workers)
        """,
        *FAKED,
    )
    result.assert_outcomes(passed=2)
    arms = timed(data)
    assert arms["test_sort[workers=2]"]["verified"] is None
    assert len(arms["test_sort[workers=2]"]["blocks"]) == 5
    result.stdout.fnmatch_lines(["*workers=2*2.00*none*"])


def test_a_plain_benchmark_that_fails_an_assert_has_no_time(measure: Measure) -> None:
    result, data = measure(
        """
        import pytest
        from fake_clock import spend
        @pytest.mark.speedup()
        def test_sort(benchmark):
            benchmark(spend, 0.1)
            assert False
        """,
        *FAKED,
    )
    result.assert_outcomes(failed=1)
    assert not data.get("benchmarks")


def test_the_fixture_works_without_the_marker(measure: Measure) -> None:
    result, data = measure_body(measure, "speedup(lambda: spend(0.1), expected=None)")
    result.assert_outcomes(passed=1)
    assert data["benchmarks"][0]["group"] == "test_suite.py::test_x"


def test_numbers_of_numpy_are_told_as_pythons(measure: Measure) -> None:
    result, data = measure_body(
        measure,
        """
import numpy as np
def arm():
    spend(0.1)
arm.facts = {"seconds": np.float32(1.5)}
speedup(arm, expected=None, work=np.prod((2, 3)), cpus=np.int64(1))
""",
    )
    result.assert_outcomes(passed=1)
    arm = timed(data)["test_x"]
    assert (arm["work"], arm["cpus"], arm["facts"]) == (6, 1, {"seconds": 1.5})


def test_the_weakest_proof_of_all_passes_is_kept(measure: Measure) -> None:
    _, data = measure(
        """
        from fake_clock import spend
        TURNS = []
        def test_x(speedup):
            TURNS.append(1)
            off = 0.001 if len(TURNS) == 2 else 0.0
            speedup(lambda: spend(0.1) or 1.0 + off, expected=1.0, tolerance={"atol": 0.01})
        """,
        *FAKED, "--speedup-passes=3",
    )  # fmt: skip
    verified = timed(data)["test_x"]["verified"]
    assert verified["bitwise"] is False
    assert verified["max_abs_error"] == pytest.approx(0.001)


def test_the_first_call_lasts_until_its_device_is_done(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.synchronize", lambda: sys.modules["fake_clock"].spend(0.2))
    _, data = measure_body(
        measure,
        """
def arm():
    spend(0.001)  # launched
arm.device = "cuda:0"
speedup(arm, expected=None)
""",
    )
    arm = timed(data)["test_x"]
    assert arm["first_call"] == pytest.approx(0.201, rel=1e-3)
    assert arm["blocks"][0][0] == pytest.approx(0.201, rel=1e-3)


def test_an_arm_whose_work_changes_between_passes_is_red(measure: Measure) -> None:
    result, data = measure(
        """
        from fake_clock import spend
        TURNS = []
        def test_x(speedup):
            TURNS.append(1)
            speedup(spend, 0.1, expected=None, work=10 * len(TURNS))
        """,
        *FAKED, "--speedup-passes=2",
    )  # fmt: skip
    result.assert_outcomes(failed=1)
    assert not timed(data)
    result.stdout.fnmatch_lines(
        ["*work was 10.0 images in an earlier pass and is 20.0 images now*"]
    )


def test_torchs_own_threads_count_as_cpus_where_nobody_says_otherwise(measure: Measure) -> None:
    _, data = measure(
        """
        import pytest
        import torch
        from fake_clock import spend
        ONE = torch.ones(1)
        @pytest.fixture(autouse=True)
        def two_threads():
            before = torch.get_num_threads()
            torch.set_num_threads(2)
            yield
            torch.set_num_threads(before)
        def test_tensor(speedup):
            speedup(lambda: spend(0.1) or ONE, expected=ONE)
        def test_number(speedup):
            speedup(lambda: spend(0.1) or 1, expected=1)
        @pytest.mark.speedup(axis="threads")
        @pytest.mark.parametrize("threads", [1])
        def test_told(speedup, threads):
            speedup(lambda: spend(0.1) or ONE, expected=ONE)
        @pytest.mark.speedup(axis="processes")
        @pytest.mark.parametrize("processes", [3])
        def test_each(speedup, processes):
            speedup(lambda: spend(0.1) or ONE, expected=ONE)
        def test_explicit(speedup):
            speedup(lambda: spend(0.1) or ONE, expected=ONE, cpus=1)
        """,
        *FAKED, "--speedup-passes=1",
    )  # fmt: skip
    cpus = {name.removeprefix("test_"): arm["cpus"] for name, arm in timed(data).items()}
    assert cpus == {
        "tensor": 2, "number": 1, "told[threads=1]": 1, "each[processes=3]": 6, "explicit": 1,
    }  # fmt: skip
    assert not timed(data)["test_tensor"]["serial"]


def test_a_clock_that_does_not_count_sleep_is_not_waited_for_ever() -> None:
    plan = plan_rounds(1e-7, repeatable=True, block_seconds=0.4, wall=0.05)
    assert plan.rounds * plan.iterations * 0.05 <= 10
