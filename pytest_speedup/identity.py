"""Which machine a run was made on, and which of its devices an arm ran on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_speedup import wording
from pytest_speedup.fields import visible
from pytest_speedup.records import Run


@dataclass(frozen=True)
class Device:
    """One device by what it is: the same model in two machines is the same device."""

    kind: str
    """torch's name for the kind: "cpu", "cuda", "mps"."""
    name: str
    """"AMD EPYC (2 CPUs)", "NVIDIA H200"."""


def machine_of(run: Run) -> tuple[object, ...]:
    """What two runs of one machine have in common.

    Not its network name, which hosts in a cloud and containers change from one day to the next.
    """
    return (wording.cpu_model(run), wording.usable_cpus(run), run.machine.get("system"))


def device_of(run: Run, device: str) -> Device:
    """The device that an arm of this run names as torch does ("cuda:0")."""
    kind, _, index = device.partition(":")
    cpu, count = wording.cpu_model(run), wording.usable_cpus(run)
    if kind == "cpu":
        return Device(kind, cpu if count is None else f"{cpu} ({count} CPU{'s' * (count != 1)})")
    name = facts_of(run, device).get("name") or (_listed(run, index) if kind == "cuda" else None)
    return Device(kind, visible(f"{name}" if name else f"{kind} beside {cpu}"))


def facts_of(run: Run, device: str) -> Mapping[str, object]:
    """What the run's machine tells of this device; {} where it tells nothing."""
    kind, _, index = device.partition(":")
    told = _ours(run).get("devices")
    if not isinstance(told, Mapping):
        return {}
    found = told.get(device) or told.get(f"{kind}:{index or 0}") or told.get(kind)
    return found if isinstance(found, Mapping) else {}


def _listed(run: Run, index: str) -> object:
    """The name among the GPUs of a run from before devices were kept."""
    gpus = _ours(run).get("gpus")
    place = int(index) if index.isdecimal() else 0
    return gpus[place] if isinstance(gpus, list) and place < len(gpus) else None


def _ours(run: Run) -> Mapping[str, object]:
    ours = run.machine.get("speedup")
    return ours if isinstance(ours, Mapping) else {}
