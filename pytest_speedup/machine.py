"""The machine and the software that a number was measured on, and the threads it really had.

`describe` is told once a run, `pool_threads` inside the worker that did the work. Neither imports a
heavy library: torch, Numba and MPI are asked only where they are loaded already, so that telling
about a machine never changes it. Nothing here raises for a machine that tells less than others.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from pytest_speedup.accelerators import accelerators, has_cuda
from pytest_speedup.cpus import (
    ROOT,
    Cpus,
    affinity,
    cpu_quota,
    governor,
    linux_cpus,
    macos_cpus,
    usable_cpus,
)

__all__ = ["describe", "pool_threads", "usable_cpus"]

DISTRIBUTIONS = (
    "pytest-speedup",
    "pytest-benchmark",
    "pytest-mpi",
    "pytest",
    "numpy",
    "torch",
    "torchvision",
    "numba",
    "mpi4py",
    "mpich",
    "openmpi",
    "threadpoolctl",
    "pillow",
)

SYSCTL = ("machdep.cpu", "hw.physicalcpu", "hw.logicalcpu", "hw.optional")


def describe(root: Path = ROOT) -> dict[str, object]:
    """Everything about this machine that may move a number, ready for JSON.

    Counts are CPUs, `quota` is CPUs' worth of time, `load_1min` processes, `memory_gib` GiB. What
    the system does not tell is None. `gil` is "on" or "off": whether threads of this interpreter
    exclude each other now, which a free-threaded build may still do.
    """
    cpus = _cpus(root)
    return {
        "cpu_model": cpus.model or platform.processor() or platform.machine() or None,
        "isa": list(cpus.isa),
        "usable_cpus": usable_cpus(root),
        "physical_cores": cpus.physical_cores,
        "logical_cpus": os.cpu_count(),
        "smt": cpus.smt,
        "affinity": affinity(),
        "quota": cpu_quota(root),
        "governor": governor(root),
        "load_1min": _load(),
        "memory_gib": _memory_gib(),
        "python": platform.python_version(),
        "gil": _gil(),
        "build": _build(),
        "versions": versions(),
        "gpus": _gpus(),
        "devices": accelerators(cpus.model),
    }


def pool_threads() -> dict[str, int]:
    """Threads that each pool gives to work started by the calling thread, by the pool's name.

    "torch": intra-op threads; "openmp" and "blas": the most that any loaded runtime of the kind
    has (told by threadpoolctl, left out where it is not installed); "numba": left out until its
    pool has started. Counts of torch and OpenMP belong to the calling thread: call this inside
    the worker.
    """
    threads: dict[str, int] = {}
    torch = sys.modules.get("torch")
    if torch is not None:
        threads["torch"] = torch.get_num_threads()
    try:
        # Slow to import, and not needed by those who time no native pools.
        import threadpoolctl
    except ImportError:
        pass
    else:
        for pool in threadpoolctl.threadpool_info():
            kind = pool["user_api"]
            threads[kind] = max(threads.get(kind, 0), pool["num_threads"])
    numba = sys.modules.get("numba")
    if numba is not None and _numba_started(numba):
        threads["numba"] = numba.get_num_threads()
    return threads


def versions() -> dict[str, str]:
    """Versions of the installed libraries that matter, and of loaded ones' own foundations."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None:
        first_line = mpi.Get_library_version().strip("\0").split("\n")[0]
        found["mpi library"] = " ".join(first_line.split())
    torch = sys.modules.get("torch")
    if torch is not None and torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def _cpus(root: Path) -> Cpus:
    if sys.platform == "darwin" and root == ROOT:
        told = subprocess.run(
            ["/usr/sbin/sysctl", *SYSCTL], capture_output=True, text=True, timeout=10, check=False
        )
        return macos_cpus(told.stdout)
    return linux_cpus(root)


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gil() -> str:
    """The interpreter's present state; all before 3.13 hold a lock."""
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)
    return "on" if enabled() else "off"


def _build() -> str:
    kinds = {"Py_GIL_DISABLED": "free-threaded", "Py_DEBUG": "debug"}
    words = [word for name, word in kinds.items() if sysconfig.get_config_var(name)]
    return ", ".join([platform.python_implementation(), platform.python_compiler(), *words])


def _gpus() -> list[str]:
    """Names of the GPUs that a loaded torch sees; torch is not loaded to find out."""
    torch = sys.modules.get("torch")
    if torch is None or not has_cuda(torch):
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _numba_started(numba: object) -> bool:
    try:
        # Asking Numba for its threads would start them; asking for its layer only tells.
        numba.threading_layer()  # type: ignore[attr-defined]
    except (ValueError, AttributeError):
        return False
    return True
