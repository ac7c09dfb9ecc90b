"""Each case is a group of its own: what is compared are the implementations of one operator."""

from __future__ import annotations

import ctypes
import sys

import pytest

from bench.kernels.cases import CASES, selected
from bench.suite import suite_of

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""malloc.h's names."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test named after an implementation the cases that the registry has for it."""
    if "case" in metafunc.fixturenames:
        from bench.kernels.arms import implements  # brings torch and Numba

        implementation = metafunc.function.__name__.removeprefix("test_")
        cases = selected(suite_of(metafunc.config).sweeps.shapes)
        names = [case.name for case in cases if implements(implementation, case)]
        metafunc.parametrize("case", names)


@pytest.fixture(scope="session", autouse=True)
def freed_memory_is_kept() -> None:
    """Every call makes room for its result; what it shall not pay for is the system's new pages."""
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, for the rest of the process; elsewhere do nothing.

    By itself it gives large blocks back and takes them anew, with up to a thousand page faults a
    call: more for torch than for NumPy, which asks for huge pages.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Group what is compared."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "case" in callspec.params:
        item.add_marker(pytest.mark.benchmark(group=CASES[callspec.params["case"]].title))
