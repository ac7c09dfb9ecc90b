"""Claims about the passes: arms take turns, each test is told of once, and nothing is lost."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

from conftest import FAKED, Measure, timed
from pytest_speedup.passes import order_of_pass

SUITE = """
    import pytest
    from fake_clock import spend
    CALLS = []
    @pytest.fixture(scope="session")
    def session_thing():
        CALLS.append("session up")
        yield
        CALLS.append("session down")
        with open("calls", "w") as file:
            file.write("\\n".join(CALLS))
    @pytest.fixture(scope="module")
    def module_thing(session_thing):
        CALLS.append("module up")
    @pytest.fixture
    def function_thing(module_thing):
        CALLS.append("function up")
        yield
        CALLS.append("function down")
    @pytest.mark.benchmark(group="g")
    def test_serial(speedup, function_thing):
        CALLS.append("serial")
        speedup(lambda: spend(0.1) or 1, expected=1)
    @pytest.mark.benchmark(group="g")
    @pytest.mark.speedup(axis="threads")
    @pytest.mark.parametrize("threads", [1, 2])
    def test_pool(speedup, function_thing, threads):
        CALLS.append(f"pool {threads}")
        speedup(lambda: spend(0.1) or threads, expected=threads)
    def test_ordinary(function_thing):
        CALLS.append("ordinary")
"""


def test_every_arm_gets_one_block_a_pass(measure: Measure) -> None:
    result, data = measure(SUITE, *FAKED, "--speedup-passes=3")
    result.assert_outcomes(passed=4)
    arms = timed(data)
    assert list(arms) == ["test_serial", "test_pool[threads=1]", "test_pool[threads=2]"]
    assert [len(arm["blocks"]) for arm in arms.values()] == [3, 3, 3]
    assert len(arms["test_serial"]["repeat"]) == 3
    assert arms["test_pool[threads=1]"]["repeat"] is None
    benchmark = data["benchmarks"][1]
    assert benchmark["params"] == {"threads": 1}
    assert benchmark["stats"]["data"] == [
        second for block in arms["test_pool[threads=1]"]["blocks"] for second in block
    ]
    assert benchmark["stats"]["rounds"] == len(benchmark["stats"]["data"])
    assert data["speedup"]["passes_done"] == 3
    assert data["speedup"]["incomplete"] is None


def test_fixtures_live_as_long_as_the_order_lets_them(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    measure(SUITE, *FAKED, "--speedup-passes=3")
    calls = (pytester.path / "calls").read_text().splitlines()
    assert calls.count("session up") == 1
    assert calls.count("function up") == calls.count("function down") == 1 + 3 * (3 + 1)
    # once for the ordinary test, once a pass: the arms of one module are set up together
    assert calls.count("module up") == 4
    for i, call in enumerate(calls):
        if call in ("serial", "pool 1", "pool 2", "ordinary"):
            assert (calls[i - 1], calls[i + 1]) == ("function up", "function down")


def test_the_seed_decides_the_order_and_each_pass_has_its_own() -> None:
    names = [f"arm{i}" for i in range(8)]
    first = [order_of_pass(names, names[:1], seed=7, number=n) for n in range(4)]
    again = [order_of_pass(names, names[:1], seed=7, number=n) for n in range(4)]
    assert first == again
    assert len({tuple(turn.nodeid for turn in order) for order in first}) == 4
    for order in first:
        assert sorted(turn.nodeid for turn in order) == sorted([*names, "arm0"])
        mine = [turn.repeat for turn in order if turn.nodeid == "arm0"]
        assert mine == [False, True]


def test_the_reference_arm_does_not_follow_itself_where_it_can_be_helped() -> None:
    for seed in range(200):
        names = ["a", "b", "c"]
        order = [turn.nodeid for turn in order_of_pass(names, ["a"], seed, 0)]
        assert not any(x == y for x, y in itertools.pairwise(order[:-1]))


def test_a_lone_arm_can_follow_itself(measure: Measure) -> None:
    result, data = measure(
        "from fake_clock import spend\n"
        "def test_x(speedup): speedup(lambda: spend(0.1) or 1, expected=1)",
        *FAKED, "--speedup-passes=2",
    )  # fmt: skip
    result.assert_outcomes(passed=1)
    assert len(timed(data)["test_x"]["repeat"]) == 2


def test_each_test_is_reported_once(measure: Measure, pytester: pytest.Pytester) -> None:
    result, _ = measure(
        SUITE, *FAKED, "--speedup-passes=3", "-v", "--junitxml=junit.xml", "--durations=0", "-vv"
    )
    result.assert_outcomes(passed=4)
    for name in ("test_serial", "test_pool[threads=1]", "test_ordinary"):
        assert sum(f"::{name} PASSED" in line for line in result.outlines) == 1
        assert sum(line.endswith(f"::{name}") and "call" in line for line in result.outlines) == 1
    cases = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    times = {case.get("name"): float(case.get("time", 0)) for case in cases}
    assert set(times) == {
        "test_serial", "test_pool[threads=1]", "test_pool[threads=2]", "test_ordinary",
    }  # fmt: skip


def test_a_tests_duration_is_that_of_all_its_turns(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    measure(
        """
        import time
        from fake_clock import spend
        def test_x(speedup):
            time.sleep(0.05)
            speedup(lambda: spend(0.1), expected=None)
        """,
        *FAKED, "--speedup-passes=3", "--junitxml=junit.xml",
    )  # fmt: skip
    (case,) = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    assert float(case.get("time", 0)) >= 3 * 2 * 0.05


def test_output_and_properties_are_those_of_one_turn(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    measure(
        """
        from fake_clock import spend
        def test_x(speedup, record_property):
            print("said once")
            record_property("key", 1)
            speedup(lambda: spend(0.1) or 1, expected=1)
        """,
        *FAKED, "--speedup-passes=3", "--junitxml=junit.xml", "-o", "junit_logging=all",
    )  # fmt: skip
    text = (pytester.path / "junit.xml").read_text()
    assert text.count("said once") == 1
    assert text.count('name="key"') == 1


def test_a_failure_in_a_later_pass_is_one_failure_and_no_time(measure: Measure) -> None:
    result, data = measure(
        SUITE
        + """
    TURNS = []
    @pytest.mark.benchmark(group="g")
    @pytest.mark.speedup(axis="threads")
    @pytest.mark.parametrize("threads", [1, 2])
    def test_flaky(speedup, threads):
        if threads == 1:
            TURNS.append(1)
            assert len(TURNS) < 3, "wrong in pass three"
        speedup(lambda: spend(0.1) or 1, expected=1)
    """,
        *FAKED,
        "--speedup-passes=4",
    )
    result.assert_outcomes(passed=5, failed=1)
    arms = timed(data)
    assert "test_flaky[threads=1]" not in arms
    assert len(arms["test_flaky[threads=2]"]["blocks"]) == 4
    (lost,) = data["speedup"]["not_run"]
    assert lost["kind"] == "failed"
    assert "wrong in pass three" in lost["reason"]
    result.stdout.fnmatch_lines(["*threads=1*failed*"])


def test_a_failing_teardown_is_a_failure_and_no_time(measure: Measure) -> None:
    result, data = measure(
        """
        import pytest
        from fake_clock import spend
        @pytest.fixture
        def bad():
            yield
            raise RuntimeError("cannot end")
        def test_bad(speedup, bad):
            speedup(lambda: spend(0.1) or 1, expected=1)
        def test_good(speedup):
            speedup(lambda: spend(0.1) or 1, expected=1)
        """,
        *FAKED, "--speedup-passes=2",
    )  # fmt: skip
    result.assert_outcomes(passed=2, errors=1)
    assert list(timed(data)) == ["test_good"]


def test_x_stops_at_the_first_failure_and_keeps_what_was_measured(measure: Measure) -> None:
    result, data = measure(
        """
        import pytest
        from fake_clock import spend
        SEEN = []
        def test_good(speedup):
            speedup(lambda: spend(0.1) or 1, expected=1)
            SEEN.append("good")
        def test_bad(speedup):
            assert "good" not in SEEN
            speedup(lambda: spend(0.1) or 1, expected=1)
        """,
        *FAKED, "--speedup-passes=3", "-x",
    )  # fmt: skip
    result.assert_outcomes(passed=1, failed=1)
    assert list(timed(data)) == ["test_good"]
    assert "stopping after 1 failures" in data["speedup"]["incomplete"]
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_lf_runs_the_failed_arm_alone(measure: Measure) -> None:
    source = """
        import pytest
        from fake_clock import spend
        @pytest.mark.speedup(axis="threads")
        @pytest.mark.parametrize("threads", [1, 2])
        def test_x(speedup, threads):
            speedup(lambda: spend(0.1) or threads, expected=1)
    """
    result, _ = measure(source, *FAKED, "--speedup-passes=2")
    result.assert_outcomes(passed=1, failed=1)
    result, _ = measure("", *FAKED, "--speedup-passes=2", "--lf")
    result.assert_outcomes(failed=1, warnings=0)


def test_skips_and_expected_failures_have_no_time_and_a_reason(measure: Measure) -> None:
    result, data = measure(
        """
        import pytest
        from fake_clock import spend
        def test_skip(speedup):
            pytest.skip("no such device")
        @pytest.mark.xfail(reason="known", strict=True)
        def test_xfail(speedup):
            speedup(lambda: spend(0.1) or 2, expected=1)
        @pytest.mark.xfail(reason="known", strict=False)
        def test_xpass(speedup):
            speedup(lambda: spend(0.1) or 1, expected=1)
        def test_good(speedup):
            speedup(lambda: spend(0.1) or 1, expected=1)
        """,
        *FAKED, "--speedup-passes=2",
    )  # fmt: skip
    result.assert_outcomes(passed=1, skipped=1, xfailed=1, xpassed=1)
    assert list(timed(data)) == ["test_good"]
    reasons = {entry["fullname"]: entry["reason"] for entry in data["speedup"]["not_run"]}
    assert "no such device" in reasons["test_suite.py::test_skip"]
    result.stdout.fnmatch_lines(["*no such device*"])


def test_a_time_limit_ends_with_a_whole_pass(measure: Measure) -> None:
    result, data = measure(
        """
        import time
        def test_x(speedup):
            speedup(lambda: time.sleep(0.02), expected=None)
        """,
        "--speedup-no-plots", "--speedup-passes=500", "--speedup-max-time=1.5",
    )  # fmt: skip
    result.assert_outcomes(passed=1)
    done = data["speedup"]["passes_done"]
    assert 1 <= done < 500
    assert len(timed(data)["test_x"]["blocks"]) == done
    assert data["speedup"]["incomplete"] is None


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--setup-only"])
def test_dry_runs_measure_nothing(measure: Measure, option: str) -> None:
    result, data = measure(SUITE, option)
    assert result.ret == 0
    assert not data
    assert "speedup:" not in result.stdout.str()


def test_setup_show_shows_each_test_once(measure: Measure) -> None:
    result, _ = measure(SUITE, *FAKED, "--speedup-passes=3", "--setup-show")
    shown = [line for line in result.outlines if "test_serial" in line and "fixtures used" in line]
    assert len(shown) == 1


def test_disabled_benchmarks_run_each_arm_once_verified_and_untimed(measure: Measure) -> None:
    result, data = measure(
        """
        from fake_clock import spend
        CALLS = []
        def test_good(speedup):
            speedup(lambda: CALLS.append(1), expected=None)
            assert len(CALLS) == 1
        def test_wrong(speedup):
            speedup(lambda: spend(0.1) or 2, expected=1)
        """,
        "--benchmark-disable",
    )
    result.assert_outcomes(passed=1, failed=1)
    assert not data
    assert "noise floor" not in result.stdout.str()


def test_another_arm_shows_the_noise_floor_where_the_reference_does_not_run(
    measure: Measure,
) -> None:
    result, data = measure(
        """
        import pytest
        from fake_clock import spend
        pytestmark = pytest.mark.benchmark(group="g")
        def test_first(speedup):
            pytest.skip("not here")
        def test_second(speedup):
            pytest.skip("nor here")
        @pytest.mark.parametrize("n", [1, 2])
        def test_third(speedup, n):
            speedup(lambda: spend(0.1), expected=None)
        """,
        *FAKED, "--speedup-passes=3",
    )  # fmt: skip
    result.assert_outcomes(passed=2, skipped=2)
    arms = timed(data)
    assert len(arms["test_third[n=1]"]["repeat"]) == 3
    assert arms["test_third[n=2]"]["repeat"] is None


def test_an_arm_whose_subtest_fails_is_red_once_and_has_no_time(measure: Measure) -> None:
    pytest.importorskip("_pytest.subtests", reason="pytest has subtests from 9.0 on")
    result, data = measure(
        """
        from fake_clock import spend
        def test_bad(speedup, subtests):
            with subtests.test("inner"):
                assert False
            speedup(spend, 0.1, expected=None)
        def test_good(speedup, subtests):
            with subtests.test("inner"):
                pass
            speedup(spend, 0.1, expected=None)
        """,
        *FAKED, "--speedup-passes=3",
    )  # fmt: skip
    assert sum("SUBFAILED" in line for line in result.outlines) == 1
    assert list(timed(data)) == ["test_good"]
    (lost,) = data["speedup"]["not_run"]
    assert (lost["kind"], lost["reason"]) == ("failed", "contains failed subtests")


def test_an_arm_that_is_not_timed_in_every_turn_has_no_time_and_a_reason(
    measure: Measure,
) -> None:
    result, data = measure(
        """
        import pytest
        from fake_clock import spend
        TURNS = []
        @pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
        def test_never(speedup): ...
        @pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
        @pytest.mark.benchmark(group="g")
        def test_sometimes(speedup):
            TURNS.append(1)
            if len(TURNS) != 2:
                speedup(spend, 0.1, expected=None)
        @pytest.mark.benchmark(group="g")
        def test_good(speedup):
            speedup(spend, 0.1, expected=None)
        """,
        *FAKED, "--speedup-passes=3",
    )  # fmt: skip
    result.assert_outcomes(passed=3)
    assert list(timed(data)) == ["test_good"]
    reasons = {entry["fullname"]: entry["reason"] for entry in data["speedup"]["not_run"]}
    assert reasons["test_suite.py::test_never"] == "timed in 0 of 6 turns"
    assert reasons["test_suite.py::test_sometimes"] == "timed in 5 of 6 turns"


def test_statistics_that_a_test_looked_at_are_those_of_all_passes(measure: Measure) -> None:
    _, data = measure(
        """
        import pytest
        from fake_clock import spend
        TURNS = []
        @pytest.mark.benchmark(group="g")
        @pytest.mark.speedup
        def test_looks(benchmark):
            TURNS.append(1)
            benchmark.pedantic(spend, (float(len(TURNS)),), rounds=2)
            assert benchmark.stats["mean"] < 100
        """,
        *FAKED, "--speedup-passes=3", "--benchmark-json=run.json",
    )  # fmt: skip
    stats = data["benchmarks"][0]["stats"]
    assert stats["mean"] == pytest.approx(sum(stats["data"]) / len(stats["data"]))


def test_no_arms_left_no_heading(measure: Measure) -> None:
    result, _ = measure(SUITE, *FAKED, "-k", "ordinary")
    result.assert_outcomes(passed=1, deselected=3)
    result.stdout.no_fnmatch_line("speedup: * arms *")


def test_a_reference_lost_in_a_later_pass_is_replaced_from_that_pass_on(measure: Measure) -> None:
    _, data = measure(
        """
        import pytest
        from fake_clock import spend
        pytestmark = pytest.mark.benchmark(group="g")
        TURNS = []
        def test_first(speedup):
            TURNS.append(1)
            assert len(TURNS) < 5, "wrong in pass three"
            speedup(lambda: spend(0.1), expected=None)
        def test_second(speedup):
            speedup(lambda: spend(0.1), expected=None)
        """,
        *FAKED, "--speedup-passes=4",
    )  # fmt: skip
    arms = timed(data)
    assert list(arms) == ["test_second"]
    assert [block is None for block in arms["test_second"]["repeat"]] == [True, True, False, False]
    assert len(arms["test_second"]["blocks"]) == 4


def test_when_and_how_each_arm_ran_is_written_down(measure: Measure) -> None:
    _, data = measure(
        """
        import time
        from fake_clock import spend
        def test_x(speedup):
            time.sleep(0.01)
            speedup(lambda: spend(0.01), expected=None)
        """,
        *FAKED, "--speedup-passes=3",
    )  # fmt: skip
    arm = timed(data)["test_x"]
    assert arm["iterations"] == 10
    assert len(arm["started"]) == 3
    assert arm["started"] == sorted(arm["started"])
    assert arm["started"][2] >= 0.04
