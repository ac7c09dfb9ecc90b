"""How many threads Numba's parallel kernels use, and on what they run.

Numba has three threading layers. TBB's is the only one that several Python threads may enter at
once and that a forked child can go on using; GNU OpenMP's ends a child that was forked after its
first use, the work queue's ends the process when two threads enter it. So TBB is taken where it is
installed (the extra `suite` brings it for x86), else OpenMP, else, as on a Mac without either, the
work queue, unless NUMBA_THREADING_LAYER says otherwise. Under MPI each rank has a pool of its own:
give each rank its share of the CPUs.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba


def most_threads() -> int:
    """The largest number of threads that can be asked for: Numba starts so many and no more.

    The CPUs of the affinity mask, or what the variable NUMBA_NUM_THREADS says.
    """
    return int(numba.config.NUMBA_NUM_THREADS)


def check_threads(threads: int | None) -> int:
    """How many threads that is, None for all; raises ValueError for more than there are."""
    most = most_threads()
    wanted = most if threads is None else threads
    if not 1 <= wanted <= most:
        raise ValueError(
            f"threads must be 1 to {most}, got {wanted}; "
            f"set NUMBA_NUM_THREADS={wanted} before Python starts for more than there are CPUs"
        )
    return wanted


@contextmanager
def numba_threads(threads: int | None) -> Iterator[int]:
    """Let parallel kernels that this thread calls use `threads`, None for all; restored afterwards.

    Yields the number. Raises ValueError for more than there are.
    """
    wanted = check_threads(threads)
    _choose_layer()
    before = numba.get_num_threads()
    if wanted == before:
        yield wanted
        return
    numba.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        numba.set_num_threads(before)


@functools.cache
def _choose_layer() -> None:
    """Once, before the first parallel kernel is compiled: later Numba asks no more."""
    if "NUMBA_THREADING_LAYER" in os.environ:
        return
    try:
        # Numba looks for the library by its bare name, which a virtual environment hides from it.
        ctypes.CDLL(str(Path(sys.prefix) / "lib" / "libtbb.so.12"), mode=ctypes.RTLD_GLOBAL)
        from numba.np.ufunc import tbbpool  # noqa: F401
    except (OSError, ImportError):
        pass
    else:
        numba.config.THREADING_LAYER = "tbb"
        return
    try:
        from numba.np.ufunc import omppool  # noqa: F401
    except ImportError:
        numba.config.THREADING_LAYER = "workqueue"
    else:
        numba.config.THREADING_LAYER = "omp"
