"""The bars of a group: every arm of every run, on pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_speedup import bars, wording
from pytest_speedup.analysis import ArmResult
from pytest_speedup.estimate import Estimate
from pytest_speedup.fields import visible
from pytest_speedup.layers import Layer, framed, paged, scaled
from pytest_speedup.sentences import is_base, peaks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = 40
"""On one page."""


def strategies(stack: Sequence[Layer]) -> list[Callable[[Sequence[str]], Figure]]:
    """Every arm as a bar, as throughput, or as time where the arms state no work."""
    by_label: dict[str, list[tuple[Layer, ArmResult]]] = {}
    for layer in stack:
        for row in layer.view.rows:
            by_label.setdefault(layer.view.called(row.arm), []).append((layer, row))
    rows = [(label, *found) for label, several in by_label.items() for found in several]
    units = [row.arm.unit for _, _, row in rows if row.throughput]
    unit = max(set(units), key=units.count) if units else None
    shown = [
        (label, layer, row, value)
        for label, layer, row in rows
        if (value := _bar_value(row, unit)) is not None
    ]
    values = [value.value for *_, value in shown]
    if unit is None:
        name, size = wording.time_unit(values)
        measure = f"time per call, {name} (shorter is better)"
    else:
        name, size = wording.rate_unit(values)
        measure = wording.rate_name(name, unit)
    drawn = [_bar(label, layer, row, scaled(value, size)) for label, layer, row, value in shown]
    notes = list(_bar_notes(stack, drawn))
    if left := [layer.called(label) for label, layer, row in rows if not _bar_value(row, unit)]:
        notes.append(f"Not drawn, no work in {visible(unit or '')}: {wording.enumeration(left)}.")
    subtitle = f"All strategies: {'time' if unit is None else 'throughput'}"
    if any(row.absolute for _, _, row, _ in shown):
        subtitle += ", and at the end of each bar the speedup over the serial base"
    chunks = list(_bar_pages(drawn))

    def page(number: int, chunk: Sequence[bars.Bar]) -> Callable[[Sequence[str]], Figure]:
        told = paged(subtitle, number, len(chunks))
        return lambda more: bars.bars(framed(stack, told, [*notes, *more]), chunk, measure)

    return [page(i, chunk) for i, chunk in enumerate(chunks, start=1)]


def _bar_value(row: ArmResult, unit: str | None) -> Estimate | None:
    if unit is None:
        return row.time
    return row.throughput if row.arm.unit == unit else None


def _bar(label: str, layer: Layer, row: ArmResult, value: Estimate) -> bars.Bar:
    group, base = layer.view.group, is_base(row.absolute_base, row.arm)
    fastest = group.ranking.fastest
    first = fastest is not None and fastest.arm.fullname == row.arm.fullname
    if base:
        told = "base"
    elif row.absolute is not None:
        told = wording.times(row.absolute)
    else:
        told = f"{wording.times(row.relative)} relative" if row.relative else ""
    if first and group.ranking.tie is False:
        told += ", fastest"
    return bars.Bar(
        label,
        value,
        told,
        base=base,
        fastest=first and group.ranking.tie is False,
        hatched=row.arm.oversubscribed,
        apart=row.device_ratio,
        run=layer.label,
        look=layer.place,
    )


def _bar_pages(drawn: Sequence[bars.Bar]) -> Iterator[list[bars.Bar]]:
    """At most BARS bars a page, and an arm's runs on one page where they fit."""
    page: list[bars.Bar] = []
    for _, several in groupby(drawn, key=lambda bar: bar.label):
        arm = list(several)
        if page and len(page) + len(arm) > BARS:
            yield page
            page = []
        page += arm
    if page:
        yield page


def _bar_notes(stack: Sequence[Layer], drawn: Sequence[bars.Bar]) -> Iterator[str]:
    if any(bar.hatched for bar in drawn):
        yield "Hatched: oversubscribed, more workers than usable CPUs."
    for layer in stack:
        group = layer.view.group
        if group.serial_base is not None:
            yield layer.called(f"Base: {layer.view.timed(group.serial_base)}") + "."
        if most := peaks(layer.view):
            yield layer.called(f"The machine's peak: {most}") + "."
        if group.ranking.tie:
            names = [layer.view.called(result.arm) for result in group.ranking.level]
            tied = f"{wording.enumeration(names[:-1])} and {names[-1]}"
            yield layer.called(f"A tie for the fastest: {tied}") + "."
