"""Devices side by side, case by case: who takes how long for the same work.

A device against another is a *device ratio*: another machine, so no parallel speedup, and never
called one. Arms of one run took turns, and their ratio is taken within passes; arms of different
runs did not, and theirs is formed from each run's own medians (`estimate.ratio_apart`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_speedup import bases, wording
from pytest_speedup.analysis import Analysis, ArmResult
from pytest_speedup.bases import short_name
from pytest_speedup.estimate import Estimate, ratio_apart
from pytest_speedup.fields import visible
from pytest_speedup.identity import Device, device_of, machine_of
from pytest_speedup.records import Arm, RecordError, Run
from pytest_speedup.sentences import views

ALIKE = {
    "case": "",
    "network": "",
    "model": "",
    "gradient": "",
    "batch": "",
    "mode": "float32",
    "precision": "float32",
    "dtype": "float32",
    "cache": "warm",
    "file_cache": "warm",
}
"""Parameters that have to agree for two arms of one group to do the same, each with what an arm
that lacks it is taken for. All others are ways of doing it."""

Key = tuple[str, tuple[str, ...], float | None, str]
"""A case: group, values of `ALIKE`, work and unit."""


@dataclass(frozen=True)
class Entry:
    """One arm on one device, in one case."""

    device: Device
    run: Run
    label: str
    """The arm's name."""
    row: ArmResult
    ratio: Estimate | None = None
    """How many times as fast as the case's base; None on the base's own device."""
    apart: bool = False
    """Whether the base is of another run, with which it took no turns."""


@dataclass(frozen=True)
class Case:
    """The same work on several devices."""

    name: str
    base: Entry
    """The fastest arm of the first device that has the case."""
    entries: Mapping[Device, tuple[Entry, ...]]
    """By device, the fastest first; a device without the case is not in it."""


@dataclass(frozen=True)
class Comparison:
    """All devices of some runs, and the cases that two or more of them have."""

    devices: tuple[Device, ...]
    runs: tuple[Run, ...]
    machines: int
    """How many the runs were made on."""
    cases: tuple[Case, ...]
    alone: Mapping[Device, tuple[str, ...]]
    """Groups that only this device has."""


def compare(analyses: Sequence[Analysis], *, implementations: bool = False) -> Comparison | None:
    """The devices of some runs side by side; None where they have but one device.

    Per device stands the fastest of the arms that are compared value by value, or with
    `implementations` the fastest of each implementation. Files of one device are joined. One that
    holds an arm of that device a second time is refused with RecordError; where all runs are of one
    machine they are two measurements of it and no comparison of devices: None.
    """
    found: dict[Key, dict[Device, list[Entry]]] = {}
    seen: dict[tuple[Device, str], str] = {}
    machines = {machine_of(analysis.run) for analysis in analyses}
    for entry, key in _entries(analyses):
        place = (entry.device, entry.row.arm.fullname)
        other = seen.setdefault(place, entry.run.source)
        if other != entry.run.source:
            if len(machines) == 1:
                return None
            raise RecordError(
                f"{visible(entry.run.source)}: is of the same device as {visible(other)} "
                f"({entry.device.name}), and measures {visible(short_name(place[1]))} once more; "
                f"name one of the two"
            )
        found.setdefault(key, {}).setdefault(entry.device, []).append(entry)
    devices = tuple(dict.fromkeys(device for device, _ in seen))
    if len(devices) < 2:
        return None
    shared = {key: by_device for key, by_device in found.items() if len(by_device) > 1}
    names = _names(list(shared))
    return Comparison(
        devices,
        tuple(analysis.run for analysis in analyses),
        len(machines),
        tuple(
            _case(names[key], by_device, devices, implementations)
            for key, by_device in shared.items()
        ),
        _alone(found, {key[0] for key in shared}),
    )


def _entries(analyses: Sequence[Analysis]) -> Iterator[tuple[Entry, Key]]:
    """Every arm with its case, run by run, those of a run's CPU first."""
    for analysis in analyses:
        pairs = [(view, row) for view in views(analysis) for row in view.rows]
        for view, row in sorted(pairs, key=lambda pair: pair[1].arm.device != "cpu"):
            arm = row.arm
            if arm.scaling == "weak":
                continue  # its work grows with its workers
            alike = tuple(str(arm.params.get(name, absent)) for name, absent in ALIKE.items())
            device = device_of(analysis.run, arm.device)
            entry = Entry(device, analysis.run, view.called(arm), row)
            yield entry, (arm.group, alike, arm.work, arm.unit)


def _case(
    name: str,
    by_device: Mapping[Device, list[Entry]],
    devices: Sequence[Device],
    implementations: bool,
) -> Case:
    ordered = [device for device in devices if device in by_device]
    fastest = {device: _fastest(by_device[device], implementations) for device in ordered}
    base = fastest[ordered[0]][0]
    return Case(
        name,
        base,
        {device: tuple(_against(each, base) for each in fastest[device]) for device in ordered},
    )


def _fastest(entries: Sequence[Entry], implementations: bool) -> list[Entry]:
    """The fastest entry, or that of each strategy; bfloat16 let through by a check stands back."""
    same = [each for each in entries if not (each.row.arm.proof and each.row.arm.proof.check)]
    ranked = sorted(same or entries, key=lambda each: each.row.time.value)
    if not implementations:
        return ranked[:1]
    by_strategy: dict[str, Entry] = {}
    for each in sorted(entries, key=lambda each: (each not in ranked, each.row.time.value)):
        by_strategy.setdefault(each.row.arm.strategy, each)
    return list(by_strategy.values())


def _against(entry: Entry, base: Entry) -> Entry:
    if entry.device == base.device:
        return entry
    arm, other, apart = entry.row.arm, base.row.arm, entry.run is not base.run
    return Entry(entry.device, entry.run, entry.label, entry.row, _ratio(arm, other, apart), apart)


def _ratio(arm: Arm, base: Arm, apart: bool) -> Estimate:
    return ratio_apart(base.blocks, arm.blocks) if apart else bases.speedup(arm, base)


def _names(keys: Sequence[Key]) -> dict[Key, str]:
    """Each case's group, with the parameters that tell it from others of that group."""
    names = {}
    for key in keys:
        others = [other for other in keys if other[0] == key[0]]
        told = [
            f"{name}={value}"
            for i, (name, value) in enumerate(zip(ALIKE, key[1], strict=True))
            if len({other[1][i] for other in others}) > 1
        ]
        if len({other[2:] for other in others}) > 1:
            told.append(f"{key[2]:g} {key[3]}" if key[2] else "no work stated")
        names[key] = visible(", ".join([key[0], *told]).strip())
    return names


def _alone(
    found: Mapping[Key, Mapping[Device, object]], shared: set[str]
) -> dict[Device, tuple[str, ...]]:
    alone: dict[Device, dict[str, None]] = {}
    for key, by_device in found.items():
        if key[0] not in shared:
            for device in by_device:
                alone.setdefault(device, {})[visible(key[0])] = None
    return {device: tuple(names) for device, names in alone.items()}


def no_case(comparison: Comparison) -> str:
    """That no device can be held against another, in a line."""
    files = [visible(run.source) for run in comparison.runs]
    return (
        f"{wording.enumeration(files)}: no case in common, so no device can be held against "
        f"another; measure the same groups on each"
    )
