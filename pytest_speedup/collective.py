"""The world of ranks that runs one pytest session together, and how it stays in step.

One `World` a session, made when `--with-mpi` is given. Its own traffic goes over a duplicate of
COMM_WORLD, so that it never mixes with the tests' collectives. Waiting is asleep (`mailbox`), a
round's start is common (`startline`), a test's time is bounded (`watchdog`), a rank's death is told
by its parent (`supervisor`). mpi4py is imported when a world starts, for importing it starts MPI.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from pytest_speedup.cpus import affinity, cpu_quota
from pytest_speedup.mailbox import AgreementTimeoutError, Mailbox, OutOfStepError
from pytest_speedup.startline import StartLine
from pytest_speedup.supervisor import LINGER, Note, Supervised
from pytest_speedup.team import RankFailedError, Team
from pytest_speedup.watchdog import FORCE, Watchdog

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds to wait for ranks that need do nothing but come."""


class MissingMPI(RuntimeError):  # noqa: N818 - named for what is missing
    """mpi4py or the MPI library behind it cannot be loaded; the message says what to install."""


@dataclass(frozen=True)
class RankCpus:
    """What the operating system grants one rank."""

    host: str
    mask: frozenset[int]
    """CPUs that the rank may be scheduled on; a launcher may have bound each rank to a core."""
    quota: float | None
    """CPUs' worth of time; None where nothing limits it."""


def usable_together(ranks: Sequence[RankCpus]) -> int:
    """CPUs that the ranks may use together: over hosts, the union of the ranks' masks, within the
    largest quota there rounded down, at least 1 a host.
    """
    total = 0
    for host in {rank.host for rank in ranks}:
        here = [rank for rank in ranks if rank.host == host]
        cpus = len(frozenset[int]().union(*(rank.mask for rank in here)))
        quotas = [rank.quota for rank in here if rank.quota is not None]
        if len(quotas) == len(here):
            cpus = min(cpus, math.floor(max(quotas)))
        total += max(1, cpus)
    return total


@dataclass(frozen=True)
class Ended:
    """How a test ended on one rank."""

    failure: str | None
    interrupted: bool


class World:
    """All ranks of a session, seen from one of them."""

    def __init__(self, comm: Intracomm, control: Intracomm, supervised: Supervised) -> None:
        from mpi4py import MPI

        self._comm = comm
        self._control = control
        self._mail = Mailbox(control)
        self._console = supervised.console
        self._note = supervised.note
        self._abortable = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._firsts: dict[int, tuple[Intracomm, StartLine] | None] = {}
        self._abandoned: list[object] = []
        self._interrupted = False
        self.rank = comm.Get_rank()
        self.size = comm.Get_size()
        self.name = f"rank {self.rank} of {self.size}"
        self._note.write(f"{self.name}, outside any test")
        cpus = RankCpus(MPI.Get_processor_name(), _mask(), cpu_quota())
        told = self._mail.exchange(cpus, doing="the start of the session", timeout=PATIENCE)
        self.cpus = tuple(cast("list[RankCpus]", told))
        """What each rank was granted on its host, by rank."""
        self.usable_cpus = usable_together(self.cpus)
        if self.size > 1:
            signal.signal(signal.SIGINT, self._interrupt)

    @classmethod
    def start(cls, supervised: Supervised | None = None) -> World:
        """Start MPI; collective. Raises MissingMPI where there is none.

        Without `supervised`, messages go where errors go now, and a rank's death has no witness.
        """
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError, OSError) as error:
            why = str(error).partition("\n")[0]
            raise MissingMPI(
                f"no MPI can be loaded here ({why}): pip install mpi4py mpich"
            ) from error
        supervised = supervised or Supervised(Note(), os.dup(2))
        return cls(MPI.COMM_WORLD, MPI.COMM_WORLD.Dup(), supervised)

    def bcast(self, value: T, *, doing: str = "a decision", timeout: float = PATIENCE) -> T:
        """Rank 0's `value` on every rank, waited for asleep; aborts the world after `timeout`."""
        try:
            return cast("T", self._mail.share(value, doing=doing, timeout=timeout))
        except (AgreementTimeoutError, OutOfStepError) as error:
            self.abort(f"{self.name}: {error}")

    def agree(self, value: T, *, doing: str, timeout: float = PATIENCE) -> list[T]:
        """Every rank's `value`, by rank, waited for asleep; collective.

        Aborts the world where ranks have not come after `timeout` seconds, naming them, or where
        they are at another step.
        """
        try:
            return cast("list[T]", self._mail.exchange(value, doing=doing, timeout=timeout))
        except (AgreementTimeoutError, OutOfStepError) as error:
            self.abort(f"{self.name}: {error}")

    def first(self, ranks: int) -> Intracomm | None:
        """The communicator of the first `ranks` ranks; None on the others.

        Made on first use, which is collective over these ranks, and again after a failure, whose
        test may have left messages behind.
        """
        team = self._team(ranks)
        return None if team is None else team[0]

    def team(self, comm: Intracomm, test: str, timeout: float) -> Team:
        """The ranks of `comm`, which is one of `first`, for a test; steps wait `timeout` seconds.

        Waiting there raises RankFailedError as soon as another rank has come to `settle` with a
        failure.
        """
        team = self._team(comm.Get_size())
        assert team is not None, "a rank that sits out has no team"
        return Team(team[1], test, timeout)

    def settle(
        self, failure: str | None, *, test: str, grace: float, timeout: float
    ) -> dict[int, str]:
        """The failures of a test, by rank, the same on every rank; collective, at its end.

        `failure` is this rank's traceback. A rank that failed waits `grace` seconds for the others:
        one that does not come waits for it in a collective, which nothing can undo. Then, or when
        a rank without failure has waited `timeout` seconds, all is told on the console and the
        world is aborted. Raises KeyboardInterrupt on every rank where one was interrupted.
        """
        patience = timeout if failure is None else min(grace, timeout)
        doing = f"the end of {test}"
        ended = Ended(failure, self._interrupted)
        try:
            told = cast(
                "list[Ended]",
                self._mail.exchange(
                    ended, doing=doing, timeout=patience, alarm=failure is not None
                ),
            )
        except OutOfStepError as error:
            self.abort(str(error) if failure is None else f"{error}\n{failure}")
        except AgreementTimeoutError as error:
            come = cast("Mapping[int, Ended]", error.arrived)
            lines = [
                f"rank {rank} of {self.size} failed in {test}:\n{ended.failure}"
                for rank, ended in sorted(come.items())
                if ended.failure is not None
            ]
            self.abort("\n".join([f"{self.name}: {error}", *lines]))
        failures = {rank: e.failure for rank, e in enumerate(told) if e.failure is not None}
        if failures:
            # Kept alive, for messages of the failed test may still be under way.
            self._abandoned.append(self._firsts)
            self._firsts = {}
        if any(ended.interrupted for ended in told):
            self._interrupted = False
            raise KeyboardInterrupt
        return failures

    @contextlib.contextmanager
    def watch(self, test: str, seconds: float) -> Iterator[None]:
        """Bound a test's time on this rank, and note the test for whoever tells of our death."""
        who = f"{self.name}, in {test}"
        self._note.write(who)
        try:
            with Watchdog(who, seconds, self._console, self._end):
                yield
        finally:
            self._note.write(f"{self.name}, outside any test")

    def abort(self, message: str) -> NoReturn:
        """Print `message` on the console, past any capture, and end every rank of the world."""
        self.tell(message)
        # The launcher reads what was written only while it has not yet been told to end.
        time.sleep(LINGER)
        self._end()

    def tell(self, message: str) -> None:
        """Print `message` on the console, past any capture."""
        rest = memoryview(f"\npytest-speedup: {message}\n".encode(errors="replace"))
        while rest:
            rest = rest[os.write(self._console, rest) :]

    def stop(self, timeout: float = PATIENCE) -> None:
        """Part in peace; collective, the last call. Without it ending would wait in MPI for ever
        for a rank that ended otherwise. Aborts the world where one has not come in time.
        """
        try:
            # Ranks that broke off may have left letters of steps that they did not finish.
            self._mail.exchange(
                None, doing="the end of the session", timeout=timeout, skip_others=True
            )
        except AgreementTimeoutError as error:
            self.abort(f"{self.name}: {error}")
        self._note.write("")
        if self.size > 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _interrupt(self, *_: object) -> None:
        # Raised here and now it would leave other ranks in a collective, and rank 0 unable to save
        # what it has; so it waits for the end of the test, where all ranks hear of it.
        self._interrupted = True

    def _team(self, ranks: int) -> tuple[Intracomm, StartLine] | None:
        if not 1 <= ranks <= self.size:
            raise ValueError(f"ranks must be from 1 to the world's size {self.size}, not {ranks}")
        if ranks not in self._firsts:
            self._firsts[ranks] = self._make_team(ranks) if self.rank < ranks else None
        return self._firsts[ranks]

    def _make_team(self, ranks: int) -> tuple[Intracomm, StartLine]:
        group = self._comm.Get_group().Incl(range(ranks))
        comm = self._comm.Create_group(group, tag=ranks)
        return comm, StartLine(comm, interrupt=self._leave_if_failed)

    def _leave_if_failed(self) -> None:
        alarm = self._mail.alarm()
        if alarm is not None:
            rank, ended = alarm
            raise RankFailedError(rank, str(cast("Ended", ended).failure))

    def _end(self) -> NoReturn:
        # The note would repeat on the console what has been told.
        self._note.write("")
        if not self._abortable and threading.current_thread() is not threading.main_thread():
            os._exit(1)
        threading.Timer(FORCE, os._exit, (1,)).start()
        self._comm.Abort(1)


def _mask() -> frozenset[int]:
    if sys.platform != "linux":
        return frozenset(range(affinity()))
    return frozenset(os.sched_getaffinity(0))
