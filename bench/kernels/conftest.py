"""Each case is a group of its own: what is compared are the implementations of one operator."""

from __future__ import annotations

import os

import pytest

from bench.kernels.cases import CASES, selected
from bench.suite import suite_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test named after an implementation the cases that the registry has for it."""
    if "case" in metafunc.fixturenames:
        # NumPy asks for huge pages for large arrays, torch only where it is told to; without them
        # each new result of torch's would pay for a thousand page faults that ours do not have.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        from bench.kernels.arms import implements  # brings torch and Numba

        implementation = metafunc.function.__name__.removeprefix("test_")
        cases = selected(suite_of(metafunc.config).sweeps.shapes)
        names = [case.name for case in cases if implements(implementation, case)]
        metafunc.parametrize("case", names)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Group what is compared."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "case" in callspec.params:
        item.add_marker(pytest.mark.benchmark(group=CASES[callspec.params["case"]].title))
