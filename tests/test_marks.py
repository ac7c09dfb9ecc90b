"""Claims about the marker: ids, groups, bases, and every mistake found before anything runs."""

from __future__ import annotations

import pytest

from conftest import FAKED, Measure, timed
from pytest_speedup.marks import Mark, reference_arms, resolve_bases


def mark(strategy: str, group: str = "g", **params: object) -> Mark:
    axis = next(iter(params), None)
    return Mark(strategy, group, axis, None, "strong", True, params)


def test_the_arm_at_one_is_the_base_of_its_series() -> None:
    marks = {f"pool-{n}": mark("pool", threads=n) for n in (1, 2, 4)} | {"serial": mark("serial")}
    bases = {nodeid: m.base for nodeid, m in resolve_bases(marks, narrowed=False).items()}
    assert bases == {"pool-1": "pool-1", "pool-2": "pool-1", "pool-4": "pool-1", "serial": None}


def test_series_that_differ_in_another_parameter_have_bases_of_their_own() -> None:
    marks = {
        f"{batch}-{n}": mark("grid", threads=n, batch_size=batch)
        for batch in (1, 8)
        for n in (1, 2)
    }
    resolved = resolve_bases(marks, narrowed=False)
    assert resolved["8-2"].base == "8-1"
    assert resolved["1-2"].base == "1-1"


def test_the_reference_is_a_serial_arm_where_there_is_one() -> None:
    marks = {"pool-1": mark("pool", threads=1), "serial": mark("serial")}
    assert reference_arms(marks) == {"g": "serial"}
    del marks["serial"]
    assert reference_arms(marks) == {"g": "pool-1"}


def test_workers_are_counted_on_worker_axes_alone() -> None:
    assert mark("pool", threads=4).workers == 4
    assert mark("batched", batch_size=4).workers == 1
    assert mark("device", device="cuda").workers == 1
    assert mark("hybrid", ranks=2, threads=4).cpus == 8
    assert mark("odd", n_jobs=3).cpus == 3


def test_ids_of_marked_tests_read_as_assignments(measure: Measure) -> None:
    result, _ = measure(
        """
        import pytest
        @pytest.mark.speedup(axis="threads")
        @pytest.mark.parametrize("threads", [1, 2])
        @pytest.mark.parametrize("kind", ["a"])
        def test_arm(speedup, threads, kind): ...
        @pytest.mark.parametrize("threads", [1])
        def test_other(threads): ...
        """,
        "--collect-only",
        "-q",
    )
    result.stdout.fnmatch_lines(
        ["*::test_arm[[]kind=a-threads=1]", "*::test_arm[[]kind=a-threads=2]", "*::test_other[[]1]"]
    )


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ("axis='thread'", "names the axis 'thread'*its parameters: threads"),
        ("axes='threads'", "no keyword 'axes'; allowed: axis, base, scaling, serial"),
        ("'threads'", "keywords only"),
        ("axis='threads', scaling='super'", "scaling must be 'strong'*'weak'*got 'super'"),
        ("axis='threads', base='nobody'", "base 'nobody' does not exist*strategies there: pool, x"),
        ("axis='threads', base='x'", "base 'x' is ambiguous; it could be *a=1*a=2*"),
    ],
)
def test_a_wrong_marker_is_one_clear_line_and_nothing_runs(
    measure: Measure, marker: str, says: str
) -> None:
    result, data = measure(
        f"""
        import pytest
        @pytest.mark.benchmark(group="g")
        @pytest.mark.speedup()
        @pytest.mark.parametrize("a", [1, 2])
        def test_x(speedup, a): ...
        @pytest.mark.benchmark(group="g")
        @pytest.mark.speedup({marker})
        @pytest.mark.parametrize("threads", [1])
        def test_pool(speedup, threads):
            open("ran", "w")
        """
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_suite.py::test_pool*{says}*"])
    assert not data


def test_a_marked_test_that_measures_nothing_is_refused(measure: Measure) -> None:
    result, _ = measure("import pytest\n@pytest.mark.speedup()\ndef test_x(): ...")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *let it take the fixture*speedup*or*benchmark*"])


def test_a_base_may_be_left_out_of_a_run_by_name(measure: Measure) -> None:
    source = """
        import pytest
        from fake_clock import spend
        @pytest.mark.benchmark(group="g")
        def test_first(speedup):
            speedup(lambda: spend(0.1) or 1, expected=1)
        @pytest.mark.benchmark(group="g")
        @pytest.mark.speedup(base="first")
        def test_second(speedup):
            speedup(lambda: spend(0.1) or 2, expected=2)
    """
    options = (*FAKED, "--speedup-passes=1")
    result, data = measure(source, *options)
    assert timed(data)["test_second"]["base"] == "test_suite.py::test_first"
    result, data = measure("", *options, "test_suite.py::test_second")
    result.assert_outcomes(passed=1)
    assert timed(data)["test_second"]["base"] is None
    result, data = measure("", *options, "-k", "second")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["*not in this run*"])


def test_tests_of_one_name_in_two_files_of_a_group_have_bases_of_their_own(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    source = """
        import pytest
        from fake_clock import spend
        pytestmark = pytest.mark.benchmark(group="g")
        @pytest.mark.speedup(axis="threads")
        @pytest.mark.parametrize("threads", [1, 2])
        def test_pool(speedup, threads):
            speedup(spend, 0.1, expected=None)
    """
    pytester.makepyfile(test_other=source)
    _, data = measure(source, *FAKED, "--speedup-passes=1")
    bases = {b["fullname"]: b["extra_info"]["speedup"]["base"] for b in data["benchmarks"]}
    assert len(bases) == 4
    for fullname, base in bases.items():
        assert base == fullname.partition("[")[0] + "[threads=1]"


def test_an_axis_that_is_no_name_is_a_usage_error(measure: Measure) -> None:
    result, _ = measure(
        """
        import pytest
        @pytest.mark.speedup(axis=["threads"])
        @pytest.mark.parametrize("threads", [1, 2])
        def test_x(speedup, threads): ...
        """
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the marker names the axis ?'threads'?*"])


def test_an_axis_may_hold_arrays(measure: Measure) -> None:
    result, _ = measure(
        """
        import numpy as np
        import pytest
        @pytest.mark.speedup(axis="sizes")
        @pytest.mark.parametrize("sizes", [np.array([1, 2])])
        def test_x(speedup, sizes):
            speedup(sizes.sum, expected=np.int64(3))
        """,
        "--benchmark-disable",
    )
    result.assert_outcomes(passed=1)
