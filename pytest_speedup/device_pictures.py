"""The pictures of a comparison of devices: which bars stand on which page, and their words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_speedup import costs, wording
from pytest_speedup.comparison import Case, Comparison, Entry
from pytest_speedup.device_bars import Block, DeviceBar, device_bars
from pytest_speedup.fields import visible
from pytest_speedup.identity import Device
from pytest_speedup.layers import paged
from pytest_speedup.pictures import Picture
from pytest_speedup.sheet import Frame
from pytest_speedup.side_by_side import RATIO, made_apart, notes, single
from pytest_speedup.table import NONE, SHARE, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = 36
"""On one page."""
BY_NAME = 18
"""Cells of an arm's name at its bar."""


def device_pictures(comparison: Comparison) -> list[Picture]:
    """Every case as a block of bars, one a device, on pages."""
    pages = list(_pages([_block(case, comparison.devices) for case in comparison.cases]))
    return [
        Picture(
            "all cases", "devices", number, len(pages), _figure(comparison, page, number, pages)
        )
        for number, page in enumerate(pages, start=1)
    ]


def _pages(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    page: list[Block] = []
    for block in blocks:
        if page and sum(len(each.bars) + 1 for each in [*page, block]) > BARS + len(page):
            yield page
            page = []
        page.append(block)
    if page:
        yield page


def _figure(
    comparison: Comparison, page: list[Block], number: int, pages: Sequence[object]
) -> Callable[[Sequence[str]], Figure]:
    subtitle = "Time of one call, the shorter the better, on a logarithmic axis"
    if all(map(single, comparison.cases)):
        subtitle = "Time of one call by each device's fastest arm, on a logarithmic axis"
    told = [f"{text[0].upper()}{text[1:]}." for text in _notes(comparison)]
    warnings = [
        f"{visible(run.source)}: {warning}"
        for run in comparison.runs
        if (warning := wording.incomplete(run))
    ]
    shares = any(entry.row.share for case in comparison.cases for entry in _entries(case))
    times = [entry.row.time for case in comparison.cases for entry in _entries(case)]
    runs = "; ".join(
        f"{wording.machine(run)}, {wording.date(run)}, {wording.passes(run)}"
        for run in comparison.runs
    )
    told.append(f"{wording.confidence(times)}. {runs}")

    def figure(more: Sequence[str]) -> Figure:
        frame = Frame(
            "The same work on several devices",
            paged(subtitle, number, len(pages)),
            f"{SHARE}: share of what that device itself gave in its own run" if shares else "",
            "; ".join(warnings) or None,
            (*told, *more),
        )
        return device_bars(frame, page, [device.name for device in comparison.devices], RATIO)

    return figure


def _notes(comparison: Comparison) -> Iterator[str]:
    yield f"{RATIO}: how many times as fast as base, on another device, so no parallel speedup"
    if text := made_apart(comparison):
        yield text
    yield from notes(comparison)


def _entries(case: Case) -> Iterator[Entry]:
    for entries in case.entries.values():
        yield from entries


def _block(case: Case, devices: Sequence[Device]) -> Block:
    bars: list[DeviceBar] = []
    for place, device in enumerate(devices):
        if device not in case.entries:
            bars.append(DeviceBar(device.name, place, None, NONE, NONE, NONE))
        bars += [_bar(entry, case, place) for entry in case.entries.get(device, ())]
    return Block(case.name, tuple(bars))


def _bar(entry: Entry, case: Case, place: int) -> DeviceBar:
    row = entry.row
    unit = wording.time_unit([row.time.value])
    decimals = wording.places([row.time.value / unit[1]])
    told = [f"{wording.number(row.time.value / unit[1], decimals)} {unit[0]}"]
    told += [f"{percent(row.share)} {SHARE}"] if row.share else []
    if joules := costs.energy(row.arm):
        name, size = wording.energy_unit([joules.value])
        scaled = joules.value / size
        told.append(f"{wording.number(scaled, wording.places([scaled], most=2))} {name}")
    ratio = wording.times(entry.ratio) if entry.ratio else NONE
    return DeviceBar(
        entry.device.name,
        place,
        row.time,
        ", ".join(told),
        "base" if entry is case.base else ratio,
        entry.label,
    )
