"""The terminal's view of a comparison of devices: a table a case, and what it rests on.

A device without a case has a dash. What designs state stands in a table of its own: it was counted
by their authors, the rest was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pytest_speedup import costs, wording
from pytest_speedup.analysis import ArmResult
from pytest_speedup.columns import Column, lay_out, squeeze, widths
from pytest_speedup.comparison import Case, Comparison, Entry, no_case
from pytest_speedup.estimate import Estimate
from pytest_speedup.fields import visible
from pytest_speedup.identity import Device, facts_of
from pytest_speedup.table import (
    BOLD,
    NARROWEST,
    NONE,
    RED,
    SHARE,
    Line,
    coloured,
    energy_columns,
    percent,
    prose,
)

RATIO = "device ratio"
SPARED = ("flop/byte", "registers", "shared, kB", "threads", ", W", "/s", "J", SHARE, "of time")

Row = tuple[Device, Entry | None]


def render(comparison: Comparison, *, width: int = 100, color: bool = False) -> str:
    """The comparison as text without a final newline, no line wider than `width` (40 or more)."""
    width = max(width, NARROWEST)
    lines: list[Line] = list(prose("devices compared", width, BOLD))
    for run in comparison.runs:
        if warning := wording.incomplete(run):
            lines += prose(f"{visible(run.source)}: {warning}", width, RED)
    for text in _head(comparison) if comparison.cases else [no_case(comparison)]:
        lines += prose(text, width)
    for case in comparison.cases:
        lines += [("", ""), *_case(case, comparison.devices, width)]
    lines.append(("", ""))
    if any("±" in text for _, text in lines):
        lines += prose("±: as far as the farther end of the interval", width)
    for text in notes(comparison):
        lines += prose(text, width)
    return coloured(lines, color)


def _head(comparison: Comparison) -> Iterator[str]:
    for device in comparison.devices:
        yield f"{device.name}: {', '.join(_told(comparison, device))}"
    yield f"{RATIO}: how many times as fast as base, another device: no parallel speedup"
    if text := made_apart(comparison):
        yield text


def _told(comparison: Comparison, device: Device) -> Iterator[str]:
    """Driver, host, file and date of a device's runs."""
    for run in comparison.runs:
        arms = [e.row.arm for e in _entries(comparison) if e.device == device and e.run is run]
        if not arms:
            continue
        driver = facts_of(run, arms[0].device).get("driver")
        yield from [visible(f"driver {driver}")] if driver else []
        yield from [f"host {wording.machine(run)}"] if device.kind == "cuda" else []
        date = wording.date(run)
        yield f"{visible(run.source)}{f' of {date}' if date else ''} ({wording.passes(run)})"


def made_apart(comparison: Comparison) -> str | None:
    """That arms of different runs took no turns, and what their ratios' intervals are made of."""
    ratios = [e.ratio for e in _entries(comparison) if e.apart and e.ratio is not None]
    if not ratios:
        return None
    levels = wording.confidence(ratios)
    return (
        f"runs made apart: their arms took no turns, so a ratio's interval is formed from the "
        f"medians of each run by itself ({levels}) and holds no drift from one run to the other"
    )


def notes(comparison: Comparison) -> Iterator[str]:
    """Where power comes from and why it is missing, and what only one device has."""
    shown = list(_entries(comparison))
    sources = dict.fromkeys(
        f"{e.device.name} by {e.row.arm.power.source}"
        for e in shown
        if e.row.arm.power and costs.power(e.row.arm)
    )
    if sources:
        yield f"power, idle power included: {'; '.join(map(visible, sources))}"
    missing = dict.fromkeys((e.device.name, costs.no_power(e.row.arm)) for e in shown)
    for reason in wording.by_reason((name, why) for name, why in missing if why):
        yield f"no power: {reason}"
    for device, groups in comparison.alone.items():
        yield f"only on {device.name}: {wording.enumeration(groups, 4)}"


def _entries(comparison: Comparison) -> Iterator[Entry]:
    for case in comparison.cases:
        for entries in case.entries.values():
            yield from entries


def _case(case: Case, devices: Sequence[Device], width: int) -> Iterator[Line]:
    rows: list[Row] = [
        (device, entry) for device in devices for entry in case.entries.get(device, (None,))
    ]
    designed = [(device, entry) for device, entry in rows if entry and entry.row.arm.design]
    yield from prose(case.name, width, BOLD)
    yield ("", "")
    yield from _laid_out(lambda told: _measured(case, rows, told), width)
    if designed:
        yield ("", "")
        yield from _laid_out(lambda _: _designed(designed), width)


def _laid_out(columns: Callable[[Callable[..., str]], list[Column]], width: int) -> Iterator[Line]:
    """A table in the roomiest layout that fits, and what was left out of it."""
    roomy, left_out = columns(wording.bracketed), list[str]()
    taken = widths([replace(column, least=None) for column in roomy], width)
    if taken is None:
        roomy, taken, left_out = squeeze(columns(wording.plus_minus), width, SPARED)
    for i, row in enumerate(lay_out(roomy, taken)):
        yield (BOLD if i == 0 else "", row)
    if left_out:
        yield from prose(f"left out at this width: {'; '.join(left_out)}", width)


def _measured(case: Case, rows: Sequence[Row], told: Callable[..., str]) -> list[Column]:
    found = [entry.row for _, entry in rows if entry]
    unit = wording.time_unit(row.time.value for row in found)
    decimals = wording.places(row.time.value / unit[1] for row in found)
    prefix, size = wording.rate_unit(row.throughput.value for row in found if row.throughput)
    rates = [row.throughput.value / size for row in found if row.throughput]

    def rate(row: ArmResult) -> str:
        each = row.throughput
        return wording.number(each.value / size, wording.places(rates)) if each else NONE

    def ratio(entry: Entry) -> str:
        if entry is case.base:
            return "base"
        return told(entry.ratio) if entry.ratio else NONE

    return [
        *_names(rows, "fastest arm" if single(case) else "arm"),
        *_shown(
            rows,
            {
                f"time, {unit[0]}": lambda e: told(e.row.time, decimals, unit[1]),
                wording.rate_name(prefix, found[0].arm.unit): lambda e: rate(e.row),
                SHARE: lambda e: percent(e.row.share),
                RATIO: ratio,
            },
        ),
        *energy_columns([entry.row.arm if entry else None for _, entry in rows], told),
    ]


def _designed(rows: Sequence[Row]) -> list[Column]:
    """What the designs state, and what follows from it and the time."""

    def fact(name: str, scale: float = 1.0) -> Callable[[Entry], str]:
        def cell(entry: Entry) -> str:
            value = entry.row.arm.design.get(name)
            return NONE if value is None else _plain(value / scale)

        return cell

    def derived(of: Callable[[ArmResult], Estimate | None], size: float) -> Callable[[Entry], str]:
        def cell(entry: Entry) -> str:
            value = of(entry.row)
            return _plain(value.value / size) if value else NONE

        return cell

    def balance(entry: Entry) -> str:
        value = costs.intensity(entry.row.arm)
        return NONE if value is None else _plain(value)

    return [
        *_names(rows, "by its design"),
        *_shown(
            rows,
            {
                "launches": fact("launches"),
                "each, µs": fact("launch_seconds", 1e-6),
                "of time": lambda e: _small(costs.launch_share(e.row)),
                "threads": fact("threads"),
                "occupancy": lambda e: _share(e.row.arm.design.get("occupancy")),
                "registers": fact("registers"),
                "shared, kB": fact("shared_bytes", 1e3),
                "moved, MB": fact("bytes", 1e6),
                "GB/s": derived(costs.traffic, 1e9),
                "flop/byte": balance,
            },
        ),
    ]


def single(case: Case) -> bool:
    """Whether each device shows its fastest arm alone."""
    return all(len(entries) == 1 for entries in case.entries.values())


def _names(rows: Sequence[Row], arms: str) -> list[Column]:
    return [
        Column("device", tuple(device.name for device, _ in rows), right=False, least=14),
        Column(arms, tuple(e.label if e else NONE for _, e in rows), right=False, least=14),
    ]


def _shown(rows: Sequence[Row], told: dict[str, Callable[[Entry], str]]) -> list[Column]:
    columns = [
        Column(head, tuple(cell(entry) if entry else NONE for _, entry in rows))
        for head, cell in told.items()
    ]
    return [column for column in columns if set(column.cells) != {NONE}]


def _plain(value: float) -> str:
    return wording.number(value, 0 if value >= 100 or value % 1 == 0 else wording.places([value]))


def _small(share: Estimate | None) -> str:
    return "< 1 %" if share and share.value < 0.01 else percent(share)


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"
