"""What an implementation's design costs on a GPU, as `speedup(..., design=...)` takes it.

    launches, threads                   counted in one call; the threads of its largest launch
    launch_seconds                      what starting a kernel costs as it is timed, measured
    registers, shared_bytes, occupancy  of the largest launch, as the CUDA driver tells them
    bytes, flop                         of the case: what goes in and comes out once

Counted for the implementations by source; of torch and Triton the launches are not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.kernels.cases import CASES
from bench.kernels.device_peaks import launch_seconds
from kernels.gpu.implementations import IMPLEMENTATIONS, Implementation
from kernels.gpu.recording import Launch, Recording
from kernels.registry import OPERATORS


def recorded(case_name: str, implementation: str | None) -> tuple[Any, Recording | None]:
    """The case's operator, and the recording of its launches where they can be noted."""
    chosen = IMPLEMENTATIONS.get(implementation or "")
    if not isinstance(chosen, Implementation):
        return None, None
    recording = Recording(chosen.device())
    made = OPERATORS[CASES[case_name].operator].on_device
    assert made is not None
    return made(recording, sequential=chosen.sequential), recording


def design_of(
    case_name: str, recording: Recording | None, call: Callable[[], object], device: str
) -> dict[str, float | int]:
    """The facts of one call; `recording` is of the device that `call` launches on."""
    case = CASES[case_name]
    facts: dict[str, float | int] = {"bytes": case.bytes}
    if case.unit == "FLOP":
        facts["flop"] = case.work
    if recording is None:
        return facts
    recording.launches.clear()
    call()
    launches = list(recording.launches)
    if not launches:
        return facts
    largest = max(launches, key=lambda launch: launch.total)
    facts |= {"launches": len(launches), "threads": largest.total}
    facts["launch_seconds"] = launch_seconds(device)
    if recording.kind == "cuda":
        facts |= _resources(largest)
    return facts


def _resources(launch: Launch) -> Mapping[str, float | int]:
    from kernels.gpu.cuda import resources

    used = resources(launch.source, launch.kernel, launch.block)
    return {
        "registers": used.registers,
        "shared_bytes": used.shared_bytes,
        "occupancy": used.occupancy,
    }
