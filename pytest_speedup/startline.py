"""A round's common start and its end: ranks begin at one instant, the slowest is the round.

Each rank tells the others when it came and waits (asleep) for theirs; the start is a little after
the last of these times. A rank sleeps until shortly before it and looks at the clock for the rest.
On one host that clock is one for all processes; between hosts each rank's offset from rank 0 is
measured, as NTP does, and measured anew before it has drifted (Hoefler, Schneider, Lumsdaine:
"Accurately Measuring Collective Operations at Massive Scale", 2008, call it the window scheme).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from pytest_speedup.mailbox import Mailbox

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

AHEAD = 4e-3
"""Seconds between the last rank's coming and the start: the longest nap of those who wait for it,
the message's way, and an unlucky turn of the scheduler."""
NAP = 2e-3
"""Seconds: the longest nap on the way to the start, where a slower rank may still be working."""
WATCH = 0.2e-3
"""Seconds before the start in which a rank watches the clock instead of sleeping."""
DRIFT = 5.0
"""Seconds after which an offset between hosts is measured anew: 20 ppm make 0.1 ms of them."""
EXCHANGES = 20
CLOCK = 1
"""Tag of the messages that compare clocks; letters have another."""

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """One rank's start of a round."""

    at: float
    """The common instant, on this rank's clock, in seconds."""
    late: float
    """Seconds after that instant at which this rank was ready; 0 when in time."""


def offset_of(exchanges: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Seconds by which the other clock is ahead, and the bound of the error, from (sent, theirs,
    received) of several exchanges.

    The exchange that was quickest binds the error tightest, to half its time (Cristian 1989).
    """
    sent, theirs, received = min(exchanges, key=lambda exchange: exchange[2] - exchange[0])
    return theirs - (sent + received) / 2, (received - sent) / 2


def clock_domain() -> str:
    """What processes share whose monotonic clocks are one: the running kernel."""
    from mpi4py import MPI

    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return MPI.Get_processor_name()


class StartLine:
    """The start line of one communicator's ranks; making it is collective over them.

    `interrupt` is called while waiting and may raise to leave, because a rank has failed that will
    never come; the line is then of no further use. `clock` and `domain` are for tests.
    """

    def __init__(
        self,
        comm: Intracomm,
        interrupt: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        domain: Callable[[], str] = clock_domain,
    ) -> None:
        self._comm = comm.Dup()
        self._mail = Mailbox(self._comm)
        self._interrupt = interrupt
        self._clock = clock
        self._ahead = 0.0
        self.error = 0.0
        """Bound in seconds of the error of this rank's clock against rank 0's."""
        self._measured = -math.inf
        self._one_clock = True
        if self._mail.size > 1:
            self._one_clock = len(set(self._comm.allgather(domain()))) == 1

    def start(self, timeout: float = 3600.0) -> Start:
        """The next round's start, returned at that instant; collective.

        Raises AgreementTimeoutError where a rank has not come within `timeout` seconds.
        """
        if self._mail.size == 1:
            return Start(self._clock(), 0.0)
        # Times are told on rank 0's clock.
        came = self._clock() - self._ahead
        stale = not self._one_clock and time.perf_counter() - self._measured > DRIFT
        told = self.exchange((stale, came), "the start of a round", timeout)
        if any(stale for stale, _ in told):
            self._measure()
            return self.start(timeout)
        return self._await(max(came for _, came in told) + AHEAD + self._ahead)

    def exchange(self, value: T, doing: str, timeout: float) -> list[T]:
        """Every rank's `value`, by rank, between two rounds; raises as `start` does."""
        told = self._mail.exchange(
            value, doing=doing, timeout=timeout, interrupt=self._interrupt, longest_nap=NAP
        )
        return cast("list[T]", told)

    def _await(self, at: float) -> Start:
        wait = at - self._clock() - WATCH
        if wait > 0:
            time.sleep(wait)
        ready = self._clock()
        while self._clock() < at:
            pass
        return Start(at, max(0.0, ready - at))

    def _measure(self) -> None:
        """Learn how far this rank's clock is ahead of rank 0's."""
        if self._mail.rank == 0:
            for rank in range(1, self._mail.size):
                exchanges = [self._ask(rank) for _ in range(EXCHANGES)]
                self._comm.send(offset_of(exchanges), dest=rank, tag=CLOCK)
        else:
            for _ in range(EXCHANGES):
                self._comm.recv(source=0, tag=CLOCK)
                self._comm.send(self._clock(), dest=0, tag=CLOCK)
            self._ahead, self.error = self._comm.recv(source=0, tag=CLOCK)
        self._measured = time.perf_counter()

    def _ask(self, rank: int) -> tuple[float, float, float]:
        sent = self._clock()
        self._comm.send(None, dest=rank, tag=CLOCK)
        theirs = self._comm.recv(source=rank, tag=CLOCK)
        return sent, float(theirs), self._clock()
