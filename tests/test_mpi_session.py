"""Claims about a whole pytest session under mpirun: one voice, one outcome, one result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Measure, timed
from tests.worlds import Ended, launch

RUN_PYTEST = """
import sys
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
OPTIONS = ("--with-mpi", "-p", "no:randomly", "-p", "no:cacheprovider", "--speedup-no-plots")

Session = Callable[..., Ended]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Run a test file on ranks: `session(4, source, *options)`."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(ranks: int | None, source: str, *options: str, **how: object) -> Ended:
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "test_suite.py").write_text("import os, time\nimport pytest\n" + source)
        script = tmp_path / "run_pytest.py"
        script.write_text(RUN_PYTEST)
        ended = launch(ranks, script, *OPTIONS, *options, **how)  # type: ignore[arg-type]
        assert ended.left == ()
        return ended

    return run


SUM = """
@pytest.mark.benchmark(group="sum")
@pytest.mark.speedup(axis="ranks")
def test_sum(speedup, comm):
    def total():
        time.sleep(0.02 * (1 + comm.rank))
        return comm.allreduce(comm.rank + 1)
    speedup(total, expected=sum(range(1, comm.size + 1)), work=1)

@pytest.mark.benchmark(group="sum")
@pytest.mark.parametrize("ranks", [1], indirect=True)
def test_serial(speedup, comm):
    speedup(time.sleep, 0.02, expected=None, work=1)

def test_ordinary():
    raise AssertionError("ran")

@pytest.mark.mpi
def test_everywhere():
    from mpi4py import MPI
    assert MPI.COMM_WORLD.allreduce(1) == MPI.COMM_WORLD.size
"""


def test_one_launch_sweeps_over_ranks_and_rank_0_speaks_for_all(
    session: Session, tmp_path: Path
) -> None:
    ended = session(4, SUM, "--benchmark-json=run.json", "--junitxml=junit.xml")
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("test session starts") == 1
    assert ended.out.count("5 passed, 1 deselected") == 1
    assert "1 tests without the marker `mpi` ran nowhere: the world has 4 ranks" in ended.out
    assert ended.out.count("noise floor") == 1
    data = json.loads((tmp_path / "run.json").read_text())
    assert data["speedup"]["world_size"] == 4
    arms = timed(data)
    assert list(arms) == [
        "test_sum[ranks=1]", "test_sum[ranks=2]", "test_sum[ranks=4]", "test_serial[ranks=1]",
    ]  # fmt: skip
    assert (tmp_path / "junit.xml").read_text().count("<testcase") == 5


def test_the_slowest_rank_is_the_round(session: Session, tmp_path: Path) -> None:
    session(2, SUM, "--benchmark-json=run.json", "--speedup-passes=2")
    arm = timed(json.loads((tmp_path / "run.json").read_text()))["test_sum[ranks=2]"]
    assert len(arm["ranks"]) == len(arm["blocks"]) == 2
    for block, rounds in zip(arm["blocks"], arm["ranks"], strict=True):
        assert [max(ranks) for ranks in rounds] == block
        assert all(len(ranks) == 2 for ranks in rounds)
        # rank 0 sleeps 20 ms, rank 1 sleeps 40 ms
        assert all(second >= 0.04 for second in block)


def test_ranks_are_swept_as_asked(session: Session) -> None:
    ended = session(3, SUM, "--ranks=1,3", "--collect-only", "-q")
    names = [line.partition("::")[2] for line in ended.out.splitlines() if "::" in line]
    assert names == ["test_sum[ranks=1]", "test_sum[ranks=3]", "test_serial[ranks=1]",
                     "test_everywhere"]  # fmt: skip


def test_more_ranks_than_there_are_is_a_usage_error(session: Session) -> None:
    ended = session(2, SUM, "--ranks=4")
    assert ended.code == pytest.ExitCode.USAGE_ERROR
    assert "--ranks 4: the world has 2 ranks; start it with mpirun -n 4" in ended.err


def test_without_mpirun_the_world_has_one_rank(session: Session, tmp_path: Path) -> None:
    ended = session(None, SUM, "--benchmark-json=run.json", "--speedup-passes=2", "-k", "not ord")
    assert ended.code == 0, ended.out + ended.err
    assert list(timed(json.loads((tmp_path / "run.json").read_text()))) == [
        "test_sum[ranks=1]", "test_serial[ranks=1]",
    ]  # fmt: skip


def test_without_with_mpi_the_arms_say_why_they_did_not_run(measure: Measure) -> None:
    source = """
        import pytest
        def test_x(speedup, comm):
            raise AssertionError("ran")
    """
    result, _ = measure(source, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["not run: test_x*ranks=1*--with-mpi*"])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("speedup(lambda: comm.rank, expected=0)", "off by 1"),
        ("speedup(lambda: 1 / (1 - comm.rank), expected=1.0)", "division by zero"),
        ("assert comm.rank == 0, 'before'\n    speedup(lambda: 1, expected=1)", "before"),
        (
            "speedup(time.sleep, 0.02, expected=None)\n    assert comm.rank == 0, 'after'",
            "AssertionError: after",
        ),
    ],
)
def test_a_failure_on_one_rank_is_everyones_and_shows_that_ranks_traceback(
    session: Session, tmp_path: Path, body: str, says: str
) -> None:
    source = f"""
@pytest.mark.speedup(axis="ranks")
def test_x(speedup, comm):
    {body}
@pytest.mark.parametrize("ranks", [1], indirect=True)
def test_good(speedup, comm):
    speedup(time.sleep, 0.02, expected=None)
"""
    ended = session(
        2, source, "--ranks=2", "--benchmark-json=run.json", "--speedup-passes=2",
        "--speedup-timeout=20",
    )  # fmt: skip
    assert says in ended.out + ended.err
    assert "rank 1" in ended.out + ended.err
    assert ended.code != 0
    assert ended.seconds < 30
    if (tmp_path / "run.json").exists():
        assert list(timed(json.loads((tmp_path / "run.json").read_text()))) == [
            "test_good[ranks=1]"
        ]
        assert "1 failed, 1 passed" in ended.out


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("raise RuntimeError('between collectives')", "between collectives"),
        ("os._exit(0)", "exit code 0, unexpectedly"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("time.sleep(1000)", "time.sleep(1000)"),
    ],
)
def test_a_rank_that_raises_dies_or_hangs_ends_the_run_with_its_name(
    session: Session, end: str, says: str
) -> None:
    source = f"""
@pytest.mark.parametrize("ranks", [2], indirect=True)
def test_x(speedup, comm):
    calls = []
    def step():
        calls.append(1)
        if comm.rank == 1 and len(calls) == 9:
            {end}
        comm.Barrier()
    speedup(step, expected=None)
"""
    ended = session(2, source, "--speedup-timeout=6")
    assert ended.code != 0
    assert ended.seconds < 25
    assert says in ended.err
    assert "rank 1 of 2" in ended.err
    assert "test_suite.py::test_x[ranks=2]" in ended.err


def test_an_interrupted_world_keeps_what_it_had(session: Session, tmp_path: Path) -> None:
    source = """
@pytest.mark.speedup(axis="ranks")
def test_x(speedup, comm):
    speedup(lambda: (time.sleep(0.05), comm.Barrier()), expected=(None, None))
"""
    ended = session(
        2, source, "--benchmark-json=run.json", "--speedup-passes=50",
        interrupt_on="speedup: pass 4/50",
    )  # fmt: skip
    data = json.loads((tmp_path / "run.json").read_text())
    assert ended.code != 0
    assert data["speedup"]["incomplete"].startswith("interrupted in pass")
    assert len(timed(data)) == 2


def test_missing_mpi4py_is_a_usage_error_that_says_what_to_install(
    session: Session, tmp_path: Path
) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('not installed')")
    ended = session(None, SUM)
    assert ended.code == pytest.ExitCode.USAGE_ERROR
    assert "pip install mpi4py mpich" in ended.err


def test_x_stops_every_rank(session: Session) -> None:
    source = """
@pytest.mark.speedup(axis="ranks")
def test_x(speedup, comm):
    assert comm.size == 1
    speedup(time.sleep, 0.02, expected=None)
"""
    ended = session(2, source, "-x", "--speedup-passes=3", "--speedup-seed=1")
    assert ended.code != 0
    assert "stopping after 1 failures" in ended.out
    assert ended.seconds < 20


def test_a_place_that_rank_0_cannot_write_ends_all_ranks_as_a_usage_error(session: Session) -> None:
    ended = session(2, SUM, "--benchmark-json=nowhere/run.json")
    assert ended.code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --benchmark-json nowhere/run.json: cannot write to the folder" in ended.err
    assert "Abort" not in ended.out + ended.err


def test_a_file_that_one_rank_cannot_import_is_told_by_all(session: Session) -> None:
    broken = "from mpi4py import MPI\nassert MPI.COMM_WORLD.rank == 0, 'no licence here'\n"
    ended = session(2, broken + SUM)
    assert ended.code == pytest.ExitCode.USAGE_ERROR
    assert "; rank 1 failed at test_suite.py: AssertionError: no licence here; all" in ended.err
