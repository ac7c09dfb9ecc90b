"""Small messages between ranks that wait asleep: what keeps a whole world in step costs no core.

A blocking MPI collective spins until the last rank has come, so that ranks which sit out an arm
would take a core from those that work. Here each rank posts its letter to every other, looks for
theirs, sleeps and looks again. Because letters go from each rank to each, every rank knows by
itself who is missing when time runs out, and a letter that belongs to another step is noticed
instead of being taken for the answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

SHORTEST_NAP = 1e-4
LONGEST_NAP = 20e-3
"""Seconds. A nap is a twentieth of the time waited so far, within these bounds: waiting adds at
most 5 % or 20 ms, and a long wait looks up 50 times a second."""

LETTER = 0
"""Tag of the letters."""


class AgreementTimeoutError(RuntimeError):
    """Ranks have not come in time. The mailbox is of no further use: abort the world."""

    def __init__(
        self, doing: str, timeout: float, arrived: Mapping[int, object], size: int
    ) -> None:
        self.doing = doing
        self.arrived = arrived
        self.missing = tuple(rank for rank in range(size) if rank not in arrived)
        super().__init__(f"waited {timeout:g} s for {name_ranks(self.missing)} at {doing}")


class OutOfStepError(RuntimeError):
    """Two ranks are at different steps. The mailbox is of no further use: abort the world."""

    def __init__(self, rank: int, here: str, other: int, there: str) -> None:
        super().__init__(f"rank {rank} is at {here} while rank {other} is at {there}")


def name_ranks(ranks: Sequence[int]) -> str:
    """`rank 2`, `ranks 1 and 3`, `ranks 0, 1 and 3`."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    *most, last = [str(rank) for rank in ranks]
    return f"ranks {', '.join(most)} and {last}"


def wait_asleep(ready: Callable[[], bool], timeout: float, longest: float = LONGEST_NAP) -> bool:
    """Whether `ready()` came true within `timeout` seconds; sleeps at most `longest` at a time."""
    began = time.perf_counter()
    while not ready():
        waited = time.perf_counter() - began
        if waited >= timeout:
            return False
        nap = min(longest, max(SHORTEST_NAP, waited / 20))
        time.sleep(min(nap, timeout - waited))
    return True


@dataclass(frozen=True)
class Letter:
    """What one rank tells another at one step."""

    doing: str
    """The step, in words that complete "at ..."; the same on all ranks."""
    value: object
    alarm: bool
    """Whether those who wait elsewhere should stop waiting: their sender has failed."""


class Mailbox:
    """One rank's end of the exchange over `comm`, which must carry no other traffic."""

    def __init__(self, comm: Intracomm) -> None:
        self._comm = comm
        self.rank = comm.Get_rank()
        self.size = comm.Get_size()
        self._others = [rank for rank in range(self.size) if rank != self.rank]
        self._unread: dict[int, deque[Letter]] = {rank: deque() for rank in self._others}
        self._under_way: list[Request] = []

    def exchange(
        self,
        value: object,
        *,
        doing: str,
        timeout: float,
        alarm: bool = False,
        longest_nap: float = LONGEST_NAP,
        interrupt: Callable[[], None] | None = None,
        skip_others: bool = False,
    ) -> list[object]:
        """Every rank's `value`, by rank; all ranks call it in the same order.

        `interrupt` is called while waiting, and may raise to leave. Raises AgreementTimeoutError
        after `timeout` seconds, and OutOfStepError where another rank is at another step, whose
        letter `skip_others` drops instead.
        """
        if self.size == 1:
            return [value]
        letter = Letter(doing, value, alarm)
        sent = self._send(letter)
        arrived: dict[int, object] = {self.rank: value}

        def complete() -> bool:
            self._collect()
            for rank in self._others:
                if skip_others:
                    self._drop(rank, doing)
                if rank not in arrived and self._unread[rank]:
                    arrived[rank] = self._take(rank, doing)
            if interrupt is not None and len(arrived) < self.size:
                interrupt()
            return len(arrived) == self.size

        if not wait_asleep(complete, timeout, longest_nap):
            raise AgreementTimeoutError(doing, timeout, arrived, self.size)
        # Everyone has come, so that what is left of the sending waits for nobody's work.
        wait_asleep(lambda: all(request.Test() for request in sent), timeout, longest_nap)
        return [arrived[rank] for rank in range(self.size)]

    def share(self, value: object, *, doing: str, timeout: float) -> object:
        """Rank 0's `value`, on every rank; waits on rank 0 alone."""
        if self.rank == 0:
            letter = Letter(doing, value, alarm=False)
            sent = self._send(letter)
            unread = set(self._others)

            def all_read() -> bool:
                unread.difference_update(
                    rank for rank, request in zip(self._others, sent, strict=True) if request.Test()
                )
                return not unread

            if not wait_asleep(all_read, timeout):
                come = dict.fromkeys(rank for rank in range(self.size) if rank not in unread)
                raise AgreementTimeoutError(doing, timeout, come, self.size)
            return value

        def came() -> bool:
            self._collect()
            return bool(self._unread[0])

        if not wait_asleep(came, timeout):
            others = dict.fromkeys(range(1, self.size))
            raise AgreementTimeoutError(doing, timeout, others, self.size)
        return self._take(0, doing)

    def alarm(self) -> tuple[int, object] | None:
        """A rank whose alarm lies unread here, and what it says: it waits for us at its step."""
        self._collect()
        for rank, letters in self._unread.items():
            for letter in letters:
                if letter.alarm:
                    return rank, letter.value
        return None

    def _send(self, letter: Letter) -> list[Request]:
        sent = [self._comm.isend(letter, dest=rank, tag=LETTER) for rank in self._others]
        # A request owns the bytes that MPI may still read, also when whoever waited has left.
        self._under_way = [request for request in self._under_way if not request.Test()] + sent
        return sent

    def _collect(self) -> None:
        for rank in self._others:
            while (message := self._comm.improbe(source=rank, tag=LETTER)) is not None:
                letter = message.recv()
                assert isinstance(letter, Letter)
                self._unread[rank].append(letter)

    def _drop(self, rank: int, doing: str) -> None:
        letters = self._unread[rank]
        while letters and letters[0].doing != doing:
            letters.popleft()

    def _take(self, rank: int, doing: str) -> object:
        letter = self._unread[rank][0]
        if letter.doing != doing:
            raise OutOfStepError(self.rank, doing, rank, letter.doing)
        return self._unread[rank].popleft().value
