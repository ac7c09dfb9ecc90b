"""The devices beside the CPU that a loaded torch can use: their names, drivers and sizes."""

from __future__ import annotations

import platform
import sys
import warnings
from typing import Any

from pytest_speedup.nvml import Nvml, NvmlError

Told = dict[str, object]


def accelerators(cpu_model: str | None) -> dict[str, Told]:
    """By torch's name ("cuda:0", "mps"), what each device says of itself, ready for JSON.

    "name"; "driver", of NVIDIA's or the system's version; for CUDA also "memory_gib",
    "compute_capability" and "multiprocessors". What is not told is None. An Apple GPU is part of
    the chip that `cpu_model` names. torch is not loaded to find out, and {} where it is not.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return _cuda(torch) | _mps(torch, cpu_model)


def has_cuda(torch: Any) -> bool:
    """Whether torch can use a CUDA device; it warns of a driver that is too old, we do not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usable: bool = torch.cuda.is_available()
    return usable


def _cuda(torch: Any) -> dict[str, Told]:
    if not has_cuda(torch):
        return {}
    try:
        driver: str | None = Nvml().driver()
    except NvmlError:
        driver = None
    return {
        f"cuda:{index}": {
            "name": torch.cuda.get_device_name(index),
            "driver": driver,
            **_sizes(torch, index),
        }
        for index in range(torch.cuda.device_count())
    }


def _sizes(torch: Any, index: int) -> Told:
    try:
        told = torch.cuda.get_device_properties(index)
        return {
            "memory_gib": round(told.total_memory / 2**30, 1),
            "compute_capability": f"{told.major}.{told.minor}",
            "multiprocessors": told.multi_processor_count,
        }
    except AttributeError:  # another torch tells other things
        return dict.fromkeys(("memory_gib", "compute_capability", "multiprocessors"))


def _mps(torch: Any, cpu_model: str | None) -> dict[str, Told]:
    mps = getattr(getattr(torch, "backends", None), "mps", None)
    if mps is None or not mps.is_available():
        return {}
    return {
        "mps": {"name": f"{cpu_model or 'Apple'} GPU", "driver": f"macOS {platform.mac_ver()[0]}"}
    }
