"""How many threads Numba's parallel kernels use, and on what they run.

Numba has three threading layers, and each does something better than the others.

    OpenMP      threads spin between two kernels: the next one loses 5 us. They spin even where
                others need the CPU, and a process forked after their first use has none of them
    TBB         12 us, but threads without work make room: two ranks of two threads each on two CPUs
                ran ResNet18 two to ten times as fast as on OpenMP. It outlives a fork
    work queue  100 us, and it takes one Python thread at a time: others wait; it needs no library

A kernel of 16 us lost so much on two threads of an Intel Xeon: `bench/overhead/test_regions.py`.

So a process alone on the machine takes OpenMP, one of several (a rank under MPI or torchrun, a
worker of a pool) TBB where it is installed, which the extra `suite` sees to on x86; the work queue
comes last. The variable NUMBA_THREADING_LAYER overrules all this.

A process forked from one that had used OpenMP has one thread: more would end it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numba

WORLD_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "WORLD_SIZE")
"""Where launchers say how many processes they started: MPICH, Open MPI, MVAPICH2, torchrun."""


def most_threads() -> int:
    """The largest number of threads that can be asked for: Numba starts so many and no more.

    The CPUs of the affinity mask, or what the variable NUMBA_NUM_THREADS says; 1 in a process
    forked from one that had used OpenMP's threads.
    """
    return int(numba.config.NUMBA_NUM_THREADS)


def check_threads(threads: int | None) -> int:
    """How many threads that is, None for all; raises ValueError for more than there are."""
    most = most_threads()
    wanted = most if threads is None else threads
    if not 1 <= wanted <= most:
        raise ValueError(
            f"threads must be 1 to {most}, got {wanted}; set NUMBA_NUM_THREADS={wanted} before "
            f"Python starts for more than there are CPUs, or NUMBA_THREADING_LAYER=tbb for more "
            f"than one in a process that was forked"
        )
    return wanted


@contextmanager
def numba_threads(threads: int | None) -> Iterator[int]:
    """Let parallel kernels that this thread calls use `threads`, None for all; restored afterwards.

    Yields the number. Raises ValueError for more than there are.
    """
    wanted = check_threads(threads)
    before = current_threads()
    if wanted == before:
        yield wanted
        return
    numba.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        numba.set_num_threads(before)


def current_threads() -> int:
    """How many threads parallel kernels that this thread calls use; starts them."""
    _start()
    return int(numba.get_num_threads())


@functools.cache
def takes_one_caller() -> bool:
    """Whether the layer is one that two Python threads may not enter at once; starts it."""
    _start()
    return bool(numba.threading_layer() == "workqueue")


@functools.cache
def _start() -> None:
    """Settle the layer before Numba starts threads: later it asks no more."""
    if "NUMBA_THREADING_LAYER" not in os.environ:
        numba.config.THREADING_LAYER = next(filter(_loads, _layers(os.environ)), "workqueue")
    elif numba.config.THREADING_LAYER not in ("omp", "workqueue"):
        _loads("tbb")  # where Numba will find it
    numba.get_num_threads()  # starts them
    if numba.threading_layer() == "omp" and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_one)


def _keep_one() -> None:
    numba.config.NUMBA_NUM_THREADS = 1


def _layers(environment: Mapping[str, str]) -> tuple[str, str]:
    """Numba's names of the layers to try, the better first."""
    sizes = (environment.get(name, "") for name in WORLD_SIZES)
    among = any(size.isdecimal() and int(size) > 1 for size in sizes)
    if among or multiprocessing.parent_process() is not None:
        return "tbb", "omp"
    return "omp", "tbb"


def _loads(layer: str) -> bool:
    """Whether the layer's library is there; it is loaded."""
    if layer == "tbb":
        # Numba looks for it by its bare name, which a virtual environment hides from it.
        library = Path(sys.prefix) / "lib" / "libtbb.so.12"
        with suppress(OSError):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    try:
        importlib.import_module(f"numba.np.ufunc.{layer}pool")
    except ImportError:
        return False
    return True
