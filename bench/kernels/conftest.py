"""Each case is a group of its own: what is compared are the implementations of one operator."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence

import pytest

from bench.kernels.cases import (
    CACHES,
    CASES,
    GPU_NETWORKS,
    gpu_network_title,
    selected,
    selected_on_gpus,
)
from bench.suite import suite_of

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""malloc.h's names."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test named after an implementation the cases that the registry has for it."""
    gpus = metafunc.definition.get_closest_marker("gpus")
    if gpus is None and "case" not in metafunc.fixturenames:
        return
    shapes = suite_of(metafunc.config).sweeps.shapes
    if gpus is not None:
        asked = suite_of(metafunc.config).sweeps.devices
        names, found = NETWORK, list[tuple[object, ...]](GPU_NETWORKS)
        if "case" in metafunc.fixturenames:
            names, found = CASE, _gpu_cases(metafunc.function.__name__, shapes)
        metafunc.parametrize(names, list(_on_gpus(found, gpus.args, asked)))
    else:
        from bench.kernels.arms import implements  # brings torch and Numba

        implementation = metafunc.function.__name__.removeprefix("test_")
        names = [case.name for case in selected(shapes) if implements(implementation, case)]
        metafunc.parametrize("case", names)


CASE = ("device", "case", "cache", "mode")
NETWORK = ("device", "network", "batch")


def _gpu_cases(test: str, shapes: str) -> list[tuple[object, ...]]:
    from bench.kernels.device_arms import ARMS  # brings torch

    mode = ARMS[test.removeprefix("test_")].mode.name
    return [(case.name, cache, mode) for case in selected_on_gpus(shapes) for cache in CACHES]


def _on_gpus(
    found: Sequence[tuple[object, ...]], devices: Sequence[str], asked: Sequence[str] | None
) -> Iterator[tuple[object, ...]]:
    """What is computed, on each device; on one that is not here a single one, which says why.

    The CPU stands beside a GPU, where there is one; alone where it is asked for by name.
    """
    from bench.devices import GPUS, absence

    gpu = any(absence(device) is None for device in GPUS)
    for device in devices:
        on_cpu = device not in GPUS
        if asked is not None and device not in asked and not on_cpu:
            continue
        here = gpu or "cpu" in (asked or ()) if on_cpu else absence(device) is None
        yield from ((device, *each) for each in (found if here else found[:1]))


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
    given = {} if callspec is None else callspec.params
    if "case" in given:
        item.add_marker(pytest.mark.benchmark(group=CASES[given["case"]].title))
    elif "batch" in given:
        title = gpu_network_title(given["network"], given["batch"])
        item.add_marker(pytest.mark.benchmark(group=title))
