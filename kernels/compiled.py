"""A kernel compiled twice from one source: for one thread, and over `prange`.

Numba keeps compiled code on disk under the function's name and types, not under its options, so
that two compilations of one function read each other's code: the parallel one takes a name of its
own here.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from types import FunctionType
from typing import Any

from numba import njit, parallel_chunksize

from kernels.threads import check_threads, current_threads, numba_threads, takes_one_caller


class Kernel:
    """A function of (tasks, ...) whose tasks write apart from each other, in any order.

    The number of tasks depends on the arguments' shapes alone, or no sum depends on it, so that
    the result is the same bits for every number of threads. One task never pays for a thread's
    start. Division by zero gives infinity or NaN. Several Python threads may call at once.
    """

    _turn = Lock()
    """Of all kernels: a layer that takes one caller at a time ends the process at a second one."""

    def __init__(
        self, source: FunctionType, fastmath: frozenset[str] = frozenset(), *, chunk: int = 0
    ) -> None:
        """`chunk`: how many tasks a thread takes at a time; 0 for an equal share of them."""
        self._chunk = chunk
        options: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
        if fastmath:
            options["fastmath"] = set(fastmath)
        self._serial = njit(**options)(source)
        self._parallel = njit(parallel=True, **options)(_renamed(source, "parallel"))

    def __call__(self, threaded: bool, threads: int | None, tasks: int, *arguments: Any) -> None:
        """Run all tasks, on `threads` threads (None: all) where it is `threaded`.

        Raises ValueError for more threads than there are.
        """
        wanted = check_threads(threads)
        if not threaded or tasks == 1 or wanted == 1:
            self._serial(tasks, *arguments)
            return
        if wanted == current_threads():  # a context manager costs a microsecond
            self._in_turn(tasks, arguments)
            return
        with numba_threads(wanted):
            self._in_turn(tasks, arguments)

    def _in_turn(self, tasks: int, arguments: tuple[Any, ...]) -> None:
        if not takes_one_caller():
            self._on_threads(tasks, arguments)
            return
        with self._turn:
            self._on_threads(tasks, arguments)

    def _on_threads(self, tasks: int, arguments: tuple[Any, ...]) -> None:
        if not self._chunk:
            self._parallel(tasks, *arguments)
            return
        with parallel_chunksize(self._chunk):
            self._parallel(tasks, *arguments)


def tasks_for(elements: int, grain: int) -> int:
    """Into how many tasks a pass over `elements` is cut: 8 of `grain` or more each, or one alone.

    Fewer would leave threads without work; more than 64 need none.
    """
    tasks = elements // grain
    return 1 if tasks < 8 else min(64, tasks)


def _renamed(source: FunctionType, suffix: str) -> Callable[..., Any]:
    copy = FunctionType(source.__code__, source.__globals__, f"{source.__name__}_{suffix}")
    copy.__qualname__ = copy.__name__
    copy.__module__ = source.__module__
    return copy
