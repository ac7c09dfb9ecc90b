"""The parent's end of worker processes: start one, tell it what to do, hear what all of them say.

Where one fails, who is at fault is asked here: a worker that raises makes others wait for ever, one
that dies makes others fail as well, and one that hangs lets others fail after a while.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from numpy.typing import NDArray

from bench.training.shared_arrays import SharedArrays
from bench.training.worker import Raised, serve

GRACE = 0.5
"""Seconds in which a worker's death is seen, after another told of the connection it lost."""


class WorkerError(RuntimeError):
    """A worker raised, died or did not go on; the pool has ended."""


class Member:
    """A worker with `threads` intra-op threads, which is starting."""

    def __init__(self, threads: int) -> None:
        self.threads: Mapping[str, int] = {}
        """Of each pool, as the worker reads it."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends with the worker

    def tell(self, command: str, *words: Any) -> None:
        """A worker that is dead will be found when it is to answer."""
        with suppress(OSError):
            self.pipe.send((command, words))

    def hand(self, shared: SharedArrays) -> None:
        """What the command before this one is about."""
        with suppress(OSError):
            shared.send(self.pipe)

    def how_it_ended(self) -> str:
        """Of one that is dead, or just about to be."""
        self.process.join()
        code = self.process.exitcode or 0
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def answers(
    members: Sequence[Member], timeout: float, command: str, progress: NDArray | None = None
) -> list[Any]:
    """What each member says; raises WorkerError for the first fault.

    timeout: seconds without an answer and without a change of `progress`.
    """
    ranks = {member.pipe: rank for rank, member in enumerate(members)}
    heard: dict[int, Any] = {}
    seen, since = None, time.monotonic()
    while len(heard) < len(members):
        waiting = [pipe for pipe, rank in ranks.items() if rank not in heard]
        for pipe in wait(waiting, min(1.0, timeout / 4)):
            rank = ranks[pipe]
            try:
                kind, heard[rank] = pipe.recv()
            except (EOFError, OSError):
                kind, heard[rank] = "raised", Raised("", 0.0)
            if kind == "raised":
                raise WorkerError(_verdict(members, heard, rank, command, timeout))
        now = None if progress is None else progress.tolist()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > timeout and len(heard) < len(members):
            raise WorkerError(_silence(members, heard, command, timeout))
    return [heard[rank] for rank in range(len(members))]


def _verdict(
    members: Sequence[Member], heard: Mapping[int, Any], rank: int, command: str, timeout: float
) -> str:
    """Who is at fault, where `rank` was the first to fail.

    A rank that loses another one fails too: so the dead come first. One that only waits for another
    fails after half the timeout: then those are named that are still silent.
    """
    dead = wait([member.process.sentinel for member in members], GRACE)
    for each, member in enumerate(members):
        if member.process.sentinel in dead:
            return f"{_name(each, members)} {member.how_it_ended()} in the middle of {command!r}"
    text = f"{_name(rank, members)} failed in {command!r}:\n{heard[rank].text}"
    silent = [each for each in range(len(members)) if each not in heard]
    if silent and heard[rank].after >= timeout / 2:
        return f"{_names(silent, members)} did not go on in {command!r}; meanwhile {text}"
    return text


def _silence(
    members: Sequence[Member], heard: Mapping[int, Any], command: str, timeout: float
) -> str:
    silent = [rank for rank in range(len(members)) if rank not in heard]
    return f"{_names(silent, members)} did not go on in {command!r} for {timeout:g} s"


def _names(ranks: Sequence[int], members: Sequence[Member]) -> str:
    return ", ".join(_name(rank, members) for rank in ranks)


def _name(rank: int, members: Sequence[Member]) -> str:
    return f"rank {rank} of {len(members)} (process {members[rank].process.pid})"
