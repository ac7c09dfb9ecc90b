"""Runs of several devices for the tests: made up beside a recorded run of a CPU.

Nobody recorded a CUDA or a Metal run for these tests. Their files are written by functions, have
the cases of the recorded one, times that no device ever took, and names that say so.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "bench" / "results"
XEON = RESULTS / "kernels-intel-xeon-2cpu.json"
"""Recorded on an Intel Xeon: ten cases of `bench/kernels`."""
XEON_START, EPYC_START = (
    RESULTS / f"{name}-2cpu.json" for name in ("start-intel-xeon", "overhead-amd-epyc")
)
"""Recorded on an Intel Xeon and on an AMD EPYC, with the group "start of pytest" in common."""


def made_up_cuda() -> dict[str, Any]:
    """A run of an H200 that never was: each case 40 times as fast as torch on the Xeon's 2 CPUs."""
    design = {
        "launches": 2,
        "launch_seconds": 3.5e-6,
        "threads": 262_144,
        "registers": 64,
        "shared_bytes": 32_768,
        "occupancy": 0.5,
    }
    name = "NVIDIA H200 (made up)"
    machine = {"cpu_model": "Made-up host CPU", "usable_cpus": 16, "gpus": [name]}
    machine["devices"] = {"cuda:0": {"name": name, "driver": "999.99", "memory_gib": 139.8}}
    return _made_up("cuda", "cuda:0", 40, machine, design, [412.0, 405.5, 418.0, 409.0, 411.5])


def made_up_metal() -> dict[str, Any]:
    """A run of an Apple GPU that never was, 6 times as fast, and without any power reading."""
    machine: dict[str, Any] = {"cpu_model": "Apple M2 (made up)", "usable_cpus": 8}
    machine["devices"] = {"mps": {"name": "Apple M2 GPU (made up)", "driver": "macOS 99.0"}}
    return _made_up("metal", "mps", 6, machine, {"launches": 2, "launch_seconds": 2e-5}, None)


def _made_up(
    strategy: str,
    device: str,
    faster: float,
    machine: Mapping[str, Any],
    design: Mapping[str, Any],
    watts: list[float] | None,
) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads(XEON.read_text())
    saved["datetime"] = "2000-01-01T00:00:00+00:00"
    saved["machine_info"]["speedup"] |= machine
    saved["speedup"]["not_run"] = []
    torchs = [b for b in saved["benchmarks"] if b["params"].get("threads") == 2]
    saved["benchmarks"] = [
        _arm(b, strategy, device, faster, design, watts)
        for b in torchs
        if b["name"].startswith("test_torch[")
    ]
    return saved


def _arm(
    recorded: Mapping[str, Any],
    strategy: str,
    device: str,
    faster: float,
    design: Mapping[str, Any],
    watts: list[float] | None,
) -> dict[str, Any]:
    arm: dict[str, Any] = copy.deepcopy(dict(recorded))
    arm["name"] = f"test_{strategy}" + arm["name"].removeprefix("test_torch").replace(
        "threads=2", f"device={device}"
    )
    arm["fullname"] = f"bench/kernels/test_made_up.py::{arm['name']}"
    arm["params"] = {k: v for k, v in arm["params"].items() if k != "threads"} | {"device": device}
    ours = arm["extra_info"]["speedup"]
    blocks = [[seconds / faster for seconds in block] for block in ours["blocks"]]
    name = {"B": "bytes", "FLOP": "flop"}.get(ours["unit"])
    moved = {name: ours["work"]} if name else {}
    missing = None if watts else f"{device} has no energy counter that can be read without root"
    ours |= {
        "strategy": strategy,
        "axis": None,
        "base": None,
        "workers": 1,
        "cpus": 1,
        "oversubscribed": False,
        "serial": False,
        "blocks": blocks,
        "repeat": None,
        "started": None,
        "device": device,
        "peak": ours["peak"] and ours["peak"] * 60,
        "design": {**design, **moved},
        "power": {"source": "NVML, the whole board", "watts": watts, "missing": missing},
    }
    return arm
