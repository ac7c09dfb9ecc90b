"""Claims about living beside other plugins, and beside suites that want none of ours."""

from __future__ import annotations

import json
import re

import pytest

from conftest import FAKED, Measure, timed

ARM = """
    import pytest
    from fake_clock import spend
    @pytest.mark.speedup(axis="threads")
    @pytest.mark.parametrize("threads", [1, 2])
    def test_x(speedup, threads):
        speedup(lambda: spend(0.1) or threads, expected=threads)
"""
UNMARKED = """
    import pytest
    from fake_clock import spend
    @pytest.mark.parametrize("n", [1, 2])
    def test_plain(benchmark, n):
        benchmark.pedantic(spend, (0.1,), rounds=3)
    @pytest.mark.parametrize("threads", [1, 2])
    def test_other(threads):
        assert threads
"""


def test_suites_without_the_marker_see_no_change(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    seen = []
    for plugin in ((), ("-p", "no:speedup")):
        result, data = measure(UNMARKED, "--benchmark-timer=fake_clock.now", "-v", *plugin)
        result.assert_outcomes(passed=4)
        data = json.loads(json.dumps(data))
        for changing in ("datetime", "commit_info"):
            data.pop(changing)
        hidden = re.compile(r"in [\d.]+s|speedup-[\d.]+,? ?|, speedup-[\d.]+|rootdir.*")
        seen.append(([hidden.sub("", line) for line in result.outlines], data))
        (pytester.path / "run.json").unlink()
    assert seen[0][0] == seen[1][0]
    for benchmark in seen[0][1]["benchmarks"] + seen[1][1]["benchmarks"]:
        for number in ("total", "mean", "min", "max", "ops", "stddev", "median", "data"):
            benchmark["stats"].pop(number, None)
        for number in ("q1", "q3", "iqr", "ld15iqr", "hd15iqr", "outliers"):
            benchmark["stats"].pop(number, None)
        benchmark["stats"] = sorted(benchmark["stats"])
    assert seen[0][1] == seen[1][1]


def test_plain_benchmarks_beside_arms_keep_their_own_table(measure: Measure) -> None:
    result, data = measure(
        ARM + "    def test_plain(benchmark):\n        benchmark(spend, 0.1)\n", *FAKED
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*benchmark: 1 tests*", "test_plain*"])
    assert "speedup" not in next(
        b["extra_info"] for b in data["benchmarks"] if b["name"] == "test_plain"
    )


def test_pytest_benchmark_compares_our_arms(measure: Measure) -> None:
    measure(ARM, *FAKED, "--benchmark-save=first")
    result, _ = measure(ARM, *FAKED, "--benchmark-compare", "--benchmark-compare-fail=mean:50%")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_x?threads=1*NOW*"])
    result.stdout.no_fnmatch_line("*machine_info is different*")


def test_pytest_benchmark_finds_a_regression_of_our_arms(measure: Measure) -> None:
    measure(ARM, *FAKED, "--benchmark-save=first")
    result, _ = measure(
        ARM.replace("0.1", "0.3"), *FAKED, "--benchmark-compare",
        "--benchmark-compare-fail=mean:50%",
    )  # fmt: skip
    assert result.ret != 0
    result.stderr.fnmatch_lines(["*Performance has regressed*"])


def test_xdist_switches_benchmarks_off_and_the_arms_are_still_verified(
    pytester: pytest.Pytester, measure: Measure
) -> None:
    measure(ARM, "--collect-only")
    result = pytester.runpytest_subprocess("-n2", "-W", "ignore")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*noise floor*")


def test_randomly_shuffles_and_the_passes_go_on(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS")
    result, data = measure(ARM, *FAKED, "-p", "randomly", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*--randomly-seed=*"])
    assert [len(arm["blocks"]) for arm in timed(data).values()] == [5, 5]


def test_timeout_ends_an_arm_that_hangs(measure: Measure) -> None:
    result, data = measure(
        """
        import time
        from fake_clock import spend
        def test_hangs(speedup):
            speedup(lambda: time.sleep(30), expected=None)
        def test_good(speedup):
            speedup(lambda: spend(0.1), expected=None)
        """,
        *FAKED, "--timeout=1", "--timeout-method=signal",
    )  # fmt: skip
    result.assert_outcomes(passed=1, failed=1)
    assert list(timed(data)) == ["test_good"]


def test_benchmark_only_and_skip_count_arms_as_benchmarks(measure: Measure) -> None:
    suite = ARM + "    def test_other(): ...\n"
    result, _ = measure(suite, *FAKED, "--benchmark-only")
    result.assert_outcomes(passed=2, skipped=1)
    result, _ = measure(suite, *FAKED, "--benchmark-skip")
    result.assert_outcomes(passed=1, skipped=2)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--speedup-passes=0", "whole number of at least 1, got '0'"),
        ("--speedup-passes=many", "whole number of at least 1, got 'many'"),
        ("--speedup-seed=-1", "whole number of at least 0, got '-1'"),
        ("--speedup-max-time=0", "number of seconds above 0, got '0'"),
        ("--speedup-timeout=nan", "number of seconds above 0, got 'nan'"),
        ("--ranks=0", "whole numbers of at least 1*got '0'"),
        ("--ranks=", "whole numbers of at least 1*got ''"),
        ("--ranks=1,a", "whole numbers of at least 1*got '1,a'"),
    ],
)
def test_a_wrong_option_is_one_clear_line(
    pytester: pytest.Pytester, option: str, says: str
) -> None:
    result = pytester.runpytest_inprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = option.partition("=")[0]
    result.stderr.fnmatch_lines([f"*error: argument {name}: {name} must be*{says}*"])


def test_names_full_of_strange_characters_do_no_harm(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    result, data = measure(
        r"""
        import pytest
        from fake_clock import spend
        @pytest.mark.benchmark(group="a/b <c> | $x$ \x1b[31m ../..")
        @pytest.mark.parametrize("name", ["<b>", "a/b", "x|y", "\x07\x1b[2J", "[bold]", "$a_b$"])
        def test_x(speedup, name):
            speedup(lambda: spend(0.1), expected=None)
        """,
        "--benchmark-timer=fake_clock.now",
    )
    result.assert_outcomes(passed=6)
    assert len(timed(data)) == 6
    assert "\x1b[2J" not in result.stdout.str()
    assert "\x1b[31m" not in result.stdout.str()
    pictures = [path.name for path in pytester.path.glob("run-*")]
    assert pictures
    assert all(re.fullmatch(r"[\w.-]+", name) for name in pictures)


def test_pytest_benchmark_shows_the_profiles_of_our_arms(measure: Measure) -> None:
    result, _ = measure(ARM, *FAKED, "--speedup-passes=1", "--benchmark-cprofile=cumtime")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*cProfile*", "test_suite.py::test_x?threads=1*"])


def test_a_suite_runs_on_where_pytest_benchmark_is_switched_off(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_x(): ...")
    result = pytester.runpytest_inprocess("-p", "no:benchmark")
    result.assert_outcomes(passed=1)
