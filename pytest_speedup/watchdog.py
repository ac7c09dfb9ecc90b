"""Bounds a test's time: says where each rank is when it has run out, and ends the world.

A thread sleeps beside the test and costs nothing until it wakes. It cannot wake while C code
holds the interpreter lock; for that `faulthandler`'s timer, which needs no lock, stands behind
it: it prints every thread's stack and exits, and the supervisor then names rank and test.
"""

from __future__ import annotations

import faulthandler
import linecache
import os
import re
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

SPEAK = 1.0
"""Seconds between the line and the end of the world, so that every rank gets to say its own."""
FORCE = 4.0
"""Seconds after that in which the world must have ended before the process exits on its own."""

MPI_CALL = re.compile(
    r"\.(I?barrier|[I]?(all)?(gather|reduce|toall)[vw]?|I?(re)?(bcast|scatter)[v]?|i?ex?scan"
    r"|reduce_scatter(_block)?|m?probe|(i?[sbr]?send|m?recv|sendrecv)|wait(all|any|some)?"
    r"|split(_type)?|dup|create(_group)?|free|fence|win_\w+|alltoall[vw]?)\(",
    re.IGNORECASE,
)
PACKAGE = str(Path(__file__).parent)
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


def place(frame: FrameType | None) -> str:
    """Where a thread is, in one line: what it does, file, line, function and the source there.

    Taken from the innermost frame that is neither this package's nor a library's.
    """
    quiet = False
    innermost = frame
    while frame is not None:
        name = frame.f_code.co_filename
        quiet = quiet or name.startswith(PACKAGE)
        if not name.startswith((PACKAGE, "<", *LIBRARIES)):
            break
        frame = frame.f_back
    shown = frame or innermost
    if shown is None:
        return "at an unknown place"
    code, line = shown.f_code, shown.f_lineno
    source = linecache.getline(code.co_filename, line).strip()
    if quiet:
        doing = "waits for the other ranks"
    elif MPI_CALL.search(source):
        doing = "waits in an MPI call"
    else:
        doing = "runs"
    return f"{doing} at {code.co_filename}:{line} in {code.co_name}: {source}"


class Watchdog:
    """`with Watchdog(...)`: after `seconds` says where the main thread is, then calls `end`."""

    def __init__(self, who: str, seconds: float, console: int, end: Callable[[], None]) -> None:
        self._who = who
        self._seconds = seconds
        self._console = console
        self._end = end
        self._over = threading.Event()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="speedup-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._watched = threading.get_ident()
        last = self._seconds + SPEAK + FORCE
        faulthandler.dump_traceback_later(last, exit=True, file=self._console)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        faulthandler.cancel_dump_traceback_later()
        self._thread.join()

    def _watch(self) -> None:
        if self._over.wait(self._seconds):
            return
        where = place(sys._current_frames().get(self._watched))
        line = f"\npytest-speedup: {self._who}: not done after {self._seconds:g} s, {where}\n"
        os.write(self._console, line.encode(errors="replace"))
        time.sleep(SPEAK)
        self._end()
