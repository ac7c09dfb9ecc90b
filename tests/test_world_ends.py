"""However a rank ends, the world ends in time, names rank and test, and leaves no process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_speedup.supervisor import Note, under_launcher, verdict
from tests.worlds import PREAMBLE, Ended, launch

TEST = "test_x.py::test_y[ranks=4]"

World = Callable[..., Ended]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Runs a body on ranks: `world(4, "say(world.rank)")`."""

    def run(ranks: int | None, body: str, **options: object) -> Ended:
        script = tmp_path / "body.py"
        script.write_text(PREAMBLE + body, encoding="utf-8")
        ended = launch(ranks, script, **options)  # type: ignore[arg-type]
        assert ended.left == ()
        return ended

    return run


DYING = """
from mpi4py import MPI
with world.watch(TEST, 30):
    MPI.COMM_WORLD.Barrier()
    if world.rank == 1:
        {death}
    {others}
    world.settle(None, test=TEST, grace=1, timeout=20)
world.stop()
"""

DEATHS = {
    "os._exit(0)": "exit code 0, unexpectedly",
    "os._exit(3)": "exit code 3, unexpectedly",
    "os.kill(os.getpid(), 9)": "killed by SIGKILL",
    "os.kill(os.getpid(), 11)": "killed by SIGSEGV",
}


@pytest.mark.parametrize("others", ["MPI.COMM_WORLD.Barrier()", "time.sleep(20)", "pass"])
@pytest.mark.parametrize("death", DEATHS)
def test_a_dying_rank_ends_the_world_and_is_named(world: World, death: str, others: str) -> None:
    ended = world(4, DYING.format(death=death, others=others))
    assert ended.code != 0
    assert f"rank 1 of 4, in {TEST}: the process " in ended.err
    assert DEATHS[death] in ended.err
    assert ended.seconds < 10


def test_a_rank_that_dies_outside_any_test_is_named(world: World) -> None:
    body = "if world.rank == 2:\n    os._exit(0)\nworld.stop()\n"
    ended = world(3, body)
    assert ended.code != 0
    assert "rank 2 of 3, outside any test: the process ended with exit code 0" in ended.err


def test_a_rank_that_the_launcher_ends_is_not_blamed(world: World) -> None:
    body = (
        "import signal\nif world.rank == 1: os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(20)"
    )
    ended = world(2, body)
    assert ended.code != 0
    assert "pytest-speedup" not in ended.err
    assert ended.seconds < 10


HANGING = """
from mpi4py import MPI
def hang():
    {hang}
with world.watch(TEST, 2):
    if world.rank == 1:
        hang()
    {others}
    world.settle(None, test=TEST, grace=1, timeout=20)
"""


def test_a_hanging_rank_is_told_from_those_that_wait_for_it(world: World) -> None:
    body = HANGING.format(
        hang="while True: pass",
        others="if world.rank == 2: MPI.COMM_WORLD.Barrier()",
    )
    ended = world(3, body)
    assert ended.code != 0
    assert f"rank 1 of 3, in {TEST}: not done after 2 s, runs at" in ended.err
    assert "in hang: while True: pass" in ended.err
    assert f"rank 2 of 3, in {TEST}: not done after 2 s, waits in an MPI call at" in ended.err
    assert f"rank 0 of 3, in {TEST}: not done after 2 s, waits for the other ranks at" in ended.err
    assert ended.seconds < 15


def test_a_hang_that_holds_the_interpreter_lock_ends_too(world: World) -> None:
    """`PyDLL` keeps the lock during the call, so that no Python code can run beside it."""
    hang = "import ctypes; ctypes.PyDLL(None).sleep(100)"
    ended = world(1, HANGING.format(hang="pass", others=hang).replace("== 1", "== 0"))
    assert ended.code != 0
    assert "Timeout" in ended.err
    assert f"rank 0 of 1, in {TEST}: the process ended with exit code 1" in ended.err
    assert ended.seconds < 20


def test_a_hang_without_a_launcher_ends_too(world: World) -> None:
    body = HANGING.format(hang="pass", others="time.sleep(100)")
    ended = world(None, body)
    assert ended.code == 1
    assert f"rank 0 of 1, in {TEST}: not done after 2 s, runs at" in ended.err
    assert "time.sleep(100)" in ended.err


RAISING = """
from mpi4py import MPI
comm = world.first(world.size)
team = world.team(comm, TEST, 30)
with world.watch(TEST, 30):
    failure = None
    try:
        if world.rank in {failing}:
            raise ValueError("boo from rank %d" % world.rank)
        {others}
    except Exception as error:
        failure = repr(error)
    failures = world.settle(failure, test=TEST, grace=2, timeout=20)
say("rank", world.rank, "knows", sorted(failures.items()))
comm = world.first(world.size)
say("then", comm.allreduce(1), world.team(comm, TEST, 30).agree_on(world.rank))
world.stop()
"""


def test_every_rank_hears_of_a_failure_and_the_world_goes_on(world: World) -> None:
    ended = world(4, RAISING.format(failing="(1, 3)", others="pass"))
    assert ended.code == 0, ended.err
    for rank in range(4):
        both = """[(1, "ValueError('boo from rank 1')"), (3, "ValueError('boo from rank 3')")]"""
        assert f"rank {rank} knows {both}" in ended.out
    assert ended.out.count("then 4 0") == 4


@pytest.mark.parametrize("others", ["team.start()", "team.all_passed(None)", "team.gather([1.0])"])
def test_ranks_that_wait_for_a_failed_one_leave_with_its_traceback(
    world: World, others: str
) -> None:
    ended = world(4, RAISING.format(failing="(1,)", others=others))
    assert ended.code == 0, ended.err
    assert ended.out.count("on rank 1:") == 3 * 4
    assert ended.out.count("then 4 0") == 4


def test_a_failure_that_leaves_others_in_a_collective_ends_the_world(world: World) -> None:
    ended = world(4, RAISING.format(failing="(1,)", others="MPI.COMM_WORLD.Barrier()"))
    assert ended.code != 0
    assert "rank 1 of 4: waited 2 s for ranks 0, 2 and 3 at the end of " + TEST in ended.err
    assert f"rank 1 of 4 failed in {TEST}:\nValueError('boo from rank 1')" in ended.err
    assert ended.seconds < 15


def test_ranks_at_different_steps_end_the_world(world: World) -> None:
    ended = world(2, "world.agree(1, doing='apple' if world.rank else 'pear')\nworld.stop()\n")
    assert ended.code != 0
    assert "rank 1 is at apple while rank 0 is at pear" in ended.err.replace(
        "rank 0 is at pear while rank 1 is at apple", "rank 1 is at apple while rank 0 is at pear"
    )


def test_a_rank_that_never_comes_is_named(world: World) -> None:
    body = "if world.rank == 1: time.sleep(30)\nworld.agree(1, doing='breakfast', timeout=1)\n"
    ended = world(3, body)
    assert ended.code != 0
    assert "s for rank 1 at breakfast" in ended.err


def test_an_interrupt_waits_for_the_end_of_the_test_and_reaches_every_rank(world: World) -> None:
    body = """
with world.watch(TEST, 30):
    comm = world.first(world.size)
    say("ready") if world.rank == 0 else None
    until = time.monotonic() + 2
    while comm.bcast(time.monotonic() < until):
        pass
    try:
        world.settle(None, test=TEST, grace=2, timeout=20)
    except KeyboardInterrupt:
        say("interrupted", world.rank)
world.stop()
"""
    ended = world(3, body, interrupt_on="ready")
    assert ended.code == 0, ended.err
    for rank in range(3):
        assert f"interrupted {rank}\n" in ended.out


def test_a_proper_end_says_nothing_and_keeps_its_exit_code(world: World) -> None:
    ended = world(2, "world.stop()\nsys.exit(5 if world.rank else 0)\n")
    assert ended.code == 5
    assert ended.err.strip() == ""


def test_without_mpi_the_message_says_what_to_install(world: World, tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('No module named mpi4py')")
    ended = world(None, "")
    assert "MissingMPI: no MPI can be loaded here (No module named mpi4py)" in ended.err
    assert "pip install mpi4py mpich" in ended.err


def test_verdict_is_silent_about_a_proper_end() -> None:
    assert verdict(4, "") == (4, None)


def test_verdict_never_lets_an_improper_end_pass_for_success() -> None:
    code, message = verdict(0, "rank 1 of 2, in test_y")
    assert code == 1
    assert message == "rank 1 of 2, in test_y: the process ended with exit code 0, unexpectedly"


def test_verdict_names_the_signal() -> None:
    code, message = verdict(-9, "rank 1 of 2, in test_y")
    assert code == 137
    assert message == "rank 1 of 2, in test_y: the process was killed by SIGKILL (out of memory?)"


def test_a_note_is_cut_rather_than_refused() -> None:
    note = Note()
    note.write("é" * 10_000)
    note.write("é" * 3000)
    assert note.read().rstrip("�") == "é" * 2047
    note.write("")
    assert note.read() == ""


def test_only_what_a_launcher_started_is_supervised() -> None:
    assert under_launcher({"PMI_RANK": "0"})
    assert not under_launcher({"HOME": "/"})
    assert not under_launcher({"PMI_RANK": "0", "PYTEST_SPEEDUP_SUPERVISED": "1"})
