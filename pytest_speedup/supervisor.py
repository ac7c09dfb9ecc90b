"""A rank's parent process: it outlives the rank, and so can tell of its death.

A launcher kills all other ranks within milliseconds of one rank's end, with a signal that none
can catch, so that no rank lives to say which one died in which test; and a rank that ends by
`os._exit(0)` ends the whole run with exit code 0, silently (seen with MPICH's hydra). Therefore
each process that a launcher started forks at once: the child becomes the rank and runs pytest, the
parent sleeps until it ends. If that end was no proper one, the parent names rank and test and
exits with a code that is not 0, and the launcher ends the others.

Must run before MPI is initialised and before output is captured. Nothing is forked where no
launcher is, as in a world of 1, or where the system has no `fork`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from typing import NoReturn

RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""One of them is set by every common launcher: hydra, prterun, orterun, srun, aprun, pals."""

SUPERVISED = "PYTEST_SPEEDUP_SUPERVISED"
"""Set in the rank, so that what it starts in turn is not taken for ranks."""

NOTE_BYTES = 4096
LINGER = 0.3
"""Seconds between the last words and the end, in which the launcher passes them on."""
PR_SET_PDEATHSIG = 1


class Note:
    """A line that outlives its writer: memory that the rank shares with its parent."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, NOTE_BYTES)

    def write(self, text: str) -> None:
        """Keep the first 4,095 bytes of `text`; empty where an end of the process is proper."""
        self._memory[:] = text.encode(errors="replace")[: NOTE_BYTES - 1].ljust(NOTE_BYTES, b"\0")

    def read(self) -> str:
        """What was written last."""
        return bytes(self._memory).rstrip(b"\0").decode(errors="replace")


class Supervised:
    """What a process knows of being supervised: the note, and the error output before capture."""

    def __init__(self, note: Note, console: int) -> None:
        self.note = note
        self.console = console
        """File descriptor."""


def under_launcher(environ: Mapping[str, str]) -> bool:
    """Whether an MPI launcher started this very process as a rank."""
    return SUPERVISED not in environ and any(name in environ for name in RANK_VARIABLES)


def supervise() -> Supervised:
    """Become a supervised rank where a launcher started us; elsewhere only keep the console.

    Returns in the rank alone; the parent never returns.
    """
    note, console = Note(), os.dup(2)
    if not hasattr(os, "fork") or "mpi4py.MPI" in sys.modules or not under_launcher(os.environ):
        return Supervised(note, console)
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    with warnings.catch_warnings():
        # Newer Pythons warn of threads at a fork: a BLAS may have some, and is built to survive it.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        _outlive(child, note, console)
    os.environ[SUPERVISED] = "1"
    _die_with(parent)
    return Supervised(note, console)


def verdict(code: int, note: str) -> tuple[int, str | None]:
    """Exit code for the launcher, and what to say of a rank that ended with `code`.

    `code` is negative for a signal, as `os.waitstatus_to_exitcode` gives it; `note` is the rank's
    last word, empty after a proper end.
    """
    if code >= 0 and not note:
        return code, None
    who = note or "a rank outside any test"
    if code >= 0:
        return code or 1, f"{who}: the process ended with exit code {code}, unexpectedly"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return 128 - code, f"{who}: the process was killed by {name}{hint}"


def _outlive(child: int, note: Note, console: int) -> NoReturn:
    asked = False

    def pass_on(number: int, _: object) -> None:
        nonlocal asked
        asked = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    # A launcher signals the whole process group. A second SIGINT would break off pytest's orderly
    # end, so it is not passed on; a SIGTERM that reached the parent alone must not be lost.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    _, status = os.waitpid(child, 0)
    code, message = verdict(os.waitstatus_to_exitcode(status), note.read())
    # A launcher that ends all ranks because of one knows why, and these deaths are no news.
    if message is not None and not asked:
        with contextlib.suppress(OSError):
            os.write(console, f"\npytest-speedup: {message}\n".encode(errors="replace"))
        # A launcher that learns of our end first may drop what it has not yet passed on.
        time.sleep(LINGER)
    os._exit(code)


def _die_with(parent: int) -> None:
    """Let the kernel kill us with our parent; elsewhere the launcher kills the process group."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
