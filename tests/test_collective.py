"""Ranks agree, start together and count their CPUs; run in worlds of 1, 2 and 4."""

from __future__ import annotations

import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_speedup.collective import RankCpus, usable_together
from pytest_speedup.mailbox import (
    AgreementTimeoutError,
    Mailbox,
    OutOfStepError,
    name_ranks,
    wait_asleep,
)
from pytest_speedup.startline import StartLine, offset_of
from pytest_speedup.team import Team
from pytest_speedup.watchdog import MPI_CALL, place
from tests.worlds import PREAMBLE, launch


def cpus(host: str, *mask: int, quota: float | None = None) -> RankCpus:
    return RankCpus(host, frozenset(mask), quota)


def test_ranks_that_share_a_host_share_its_cpus() -> None:
    assert usable_together([cpus("a", 0, 1)] * 4) == 2


def test_ranks_bound_to_a_core_each_bring_their_own() -> None:
    assert usable_together([cpus("a", 0), cpus("a", 1), cpus("a", 1, 2)]) == 3


def test_hosts_add_up() -> None:
    assert usable_together([cpus("a", 0, 1), cpus("b", 0, 1), cpus("b", 0, 1)]) == 4


def test_a_quota_is_shared_by_a_hosts_ranks_and_rounded_down() -> None:
    assert usable_together([cpus("a", 0, 1, 2, 3, quota=2.7)] * 3) == 2


def test_a_quota_binds_no_rank_that_has_none() -> None:
    assert usable_together([cpus("a", 0, 1, 2, quota=1), cpus("a", 0, 1, 2)]) == 3


def test_a_host_brings_at_least_one_cpu() -> None:
    assert usable_together([cpus("a", 0, quota=0.5)]) == 1


def test_ranks_are_named_in_words() -> None:
    assert name_ranks([3]) == "rank 3"
    assert name_ranks([1, 3]) == "ranks 1 and 3"
    assert name_ranks([0, 1, 3]) == "ranks 0, 1 and 3"


def test_waiting_ends_when_ready() -> None:
    answers = iter([False, False, True])
    assert wait_asleep(lambda: next(answers), timeout=60)


def test_waiting_ends_when_time_is_up() -> None:
    began = time.monotonic()
    assert not wait_asleep(lambda: False, timeout=0.05)
    assert 0.05 <= time.monotonic() - began < 5


def test_waiting_costs_next_to_no_cpu() -> None:
    before = time.process_time()
    wait_asleep(lambda: False, timeout=0.5)
    assert time.process_time() - before < 0.1


def test_the_quickest_exchange_tells_the_offset() -> None:
    slow, quick = (0.0, 108.0, 10.0), (20.0, 120.6, 21.0)
    assert offset_of([slow, quick]) == pytest.approx((100.1, 0.5))


@pytest.mark.parametrize(
    "source",
    [
        "comm.Barrier()",
        "total = comm.allreduce(x)",
        "comm.Iallgatherv(a, b)",
        "r.Wait()",
        "comm.recv(source=1)",
        "comm.Alltoallv(a, b)",
        "comm.Ibcast(a)",
        "comm.Reduce_scatter_block(a, b)",
    ],
)
def test_a_call_that_waits_in_mpi_is_known(source: str) -> None:
    assert MPI_CALL.search(source)


@pytest.mark.parametrize(
    "source", ["while True: pass", "time.sleep(3)", "pool.submit(f)", "x.sum()"]
)
def test_other_calls_are_not_taken_for_mpi(source: str) -> None:
    assert not MPI_CALL.search(source)


def test_place_names_file_line_function_and_source() -> None:
    here = place(sys._getframe())
    assert here.startswith(f"runs at {__file__}:")
    assert here.endswith(
        "in test_place_names_file_line_function_and_source: here = place(sys._getframe())"
    )


# From here on in the world that pytest itself runs in: mpirun -n 4 pytest --with-mpi


@pytest.fixture
def all_ranks() -> object:
    """A communicator of every rank, of this test's own."""
    from mpi4py import MPI

    own = MPI.COMM_WORLD.Dup()
    yield own
    own.Free()


@pytest.mark.mpi
def test_exchange_brings_every_ranks_value_in_order(all_ranks) -> None:
    mail = Mailbox(all_ranks)
    for turn in range(20):
        told = mail.exchange((mail.rank, turn), doing="a test", timeout=30)
        assert told == [(rank, turn) for rank in range(mail.size)]


@pytest.mark.mpi
def test_share_brings_rank_0s_value(all_ranks) -> None:
    mail = Mailbox(all_ranks)
    for turn in range(20):
        assert mail.share((mail.rank, turn), doing="a test", timeout=30) == (0, turn)


@pytest.mark.mpi
def test_a_letter_of_many_megabytes_arrives(all_ranks) -> None:
    mail = Mailbox(all_ranks)
    told = mail.exchange(bytes([mail.rank]) * 4_000_000, doing="a test", timeout=30)
    assert told == [bytes([rank]) * 4_000_000 for rank in range(mail.size)]
    assert len(mail.share(b"x" * 4_000_000, doing="more", timeout=30)) == 4_000_000


@pytest.mark.mpi
def test_who_has_not_come_is_named(all_ranks) -> None:
    mail = Mailbox(all_ranks)
    if mail.rank < mail.size - 1:
        with pytest.raises(AgreementTimeoutError) as caught:
            mail.exchange(None, doing="a test", timeout=0.3)
        assert mail.size - 1 in caught.value.missing
    all_ranks.Barrier()
    mail._collect()


@pytest.mark.mpi
def test_another_step_is_not_taken_for_the_answer(all_ranks) -> None:
    mail = Mailbox(all_ranks)
    if mail.size == 1:
        assert mail.exchange(1, doing="step 0", timeout=1) == [1]
        return
    with pytest.raises(OutOfStepError, match=f"rank {mail.rank} is at step {mail.rank} while"):
        mail.exchange(1, doing=f"step {mail.rank}", timeout=30)
    all_ranks.Barrier()
    mail._collect()


@pytest.mark.mpi
def test_what_a_broken_off_step_left_behind_can_be_skipped(all_ranks) -> None:
    mail = Mailbox(all_ranks)

    def break_off() -> None:
        raise KeyboardInterrupt

    if mail.rank == mail.size - 1 and mail.size > 1:
        with pytest.raises(KeyboardInterrupt):
            mail.exchange("stale", doing="a step of one rank", timeout=30, interrupt=break_off)
    all_ranks.Barrier()
    told = mail.exchange("fresh", doing="the end", timeout=30, skip_others=True)
    assert told == ["fresh"] * mail.size


@pytest.mark.mpi
def test_all_ranks_start_at_one_instant(all_ranks) -> None:
    line = StartLine(all_ranks)
    starts = [line.start(timeout=30) for _ in range(5)]
    assert time.perf_counter() >= starts[-1].at
    for told in zip(*line.exchange([start.at for start in starts], "test", 30), strict=True):
        assert max(told) - min(told) < 1e-6
    assert all(later.at > earlier.at for earlier, later in pairwise(starts))


@pytest.mark.mpi
def test_hosts_with_clocks_of_their_own_start_at_one_instant(all_ranks) -> None:
    """Each rank's clock is ahead by an hour more than the last one's, as if on hosts of its own."""
    rank = all_ranks.Get_rank()
    ahead = 3600.0 * rank
    line = StartLine(
        all_ranks, clock=lambda: time.perf_counter() + ahead, domain=lambda: f"host {rank}"
    )
    starts = [line.start(timeout=30) for _ in range(5)]
    errors = line.exchange(line.error, "test", 30)
    for told in zip(*line.exchange([s.at - ahead for s in starts], "test", 30), strict=True):
        assert max(told) - min(told) <= 2 * max(errors) + 1e-6
    assert max(errors) < 0.5


@pytest.mark.mpi
def test_the_slowest_rank_is_seen_by_all(all_ranks) -> None:
    team = Team(StartLine(all_ranks), "a test", timeout=30)
    rank, size = all_ranks.Get_rank(), all_ranks.Get_size()
    seconds = []
    for _ in range(2):
        start = team.start()
        time.sleep(0.02 + 0.1 * rank)
        seconds.append(time.perf_counter() - start)
    by_rank = team.gather(seconds)
    assert by_rank[rank] == seconds
    assert len(by_rank) == size
    for slower, rounds in enumerate(by_rank):
        assert all(took >= 0.02 + 0.1 * slower for took in rounds)


@pytest.mark.mpi
def test_a_rank_that_fails_a_step_leaves_it_at_once(all_ranks) -> None:
    team = Team(StartLine(all_ranks), "a test", timeout=30)
    team.all_passed(None)
    if all_ranks.Get_rank() == all_ranks.Get_size() - 1:
        with pytest.raises(ValueError, match="boo"):
            team.all_passed(ValueError("boo"))
    # the others would wait for it in the step, until it comes to the end of the test
    assert team.agree_on(all_ranks.Get_rank()) == 0


# Worlds of their own, from an ordinary run

QUIET = """
world.agree(None, doing="begin")
comm = world.first(1)
if comm is not None:
    time.sleep(1.5)
before = time.process_time()
waited = time.perf_counter()
world.settle(None, test=TEST, grace=5, timeout=30)
say(world.rank, time.process_time() - before, time.perf_counter() - waited)
world.stop()
"""


def run(tmp_path: Path, ranks: int | None, body: str) -> str:
    script = tmp_path / "body.py"
    script.write_text(PREAMBLE + body, encoding="utf-8")
    ended = launch(ranks, script)
    assert ended.code == 0, ended.err
    assert ended.left == ()
    return ended.out


def test_ranks_that_sit_out_sleep(tmp_path: Path) -> None:
    lines = [line.split() for line in run(tmp_path, 4, QUIET).splitlines()]
    assert len(lines) == 4
    idle = [float(cpu) / float(wall) for rank, cpu, wall in lines if rank != "0"]
    assert statistics.median(idle) < 0.1


WORLD = """
from mpi4py import MPI
for ranks in range(1, world.size + 1):
    comm = world.first(ranks)
    assert (comm is not None) == (world.rank < ranks)
    if comm is not None:
        assert (comm.size, comm.rank) == (ranks, world.rank)
        assert comm.allreduce(1) == ranks
        assert world.first(ranks) is comm
        assert world.team(comm, TEST, 20).agree_on(world.rank) == 0
assert world.bcast(world.rank + 7) == 7
assert world.agree(world.rank, doing="x") == list(range(world.size))
assert world.settle(None, test=TEST, grace=1, timeout=20) == {}
try:
    world.first(world.size + 1)
except ValueError as error:
    say(world.rank, "of", world.size, world.usable_cpus, error)
world.stop()
"""


@pytest.mark.parametrize("ranks", [None, 1, 2, 3, 4])
def test_a_world_of_any_size_agrees(tmp_path: Path, ranks: int | None) -> None:
    out = run(tmp_path, ranks, WORLD)
    size = ranks or 1
    for rank in range(size):
        assert f"{rank} of {size} " in out
        assert f"ranks must be from 1 to the world's size {size}, not {size + 1}" in out


def test_a_world_without_a_launcher_forks_nothing(tmp_path: Path) -> None:
    body = f"say('parent', os.getppid() == {os.getpid()})\nworld.stop()\n"
    assert "parent True" in run(tmp_path, None, body)
