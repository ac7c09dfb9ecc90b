"""Which pictures a group gives, and what each of them holds: from `analysis` to curves and bars.

No number is computed here. What a picture cannot show it names among its notes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_speedup import figures, wording
from pytest_speedup.analysis import ArmResult, SeriesResult
from pytest_speedup.fields import visible
from pytest_speedup.layers import Layer, framed, paged, scaled
from pytest_speedup.series import is_number
from pytest_speedup.sheet import Frame
from pytest_speedup.strategies import strategies

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = 7
"""Series in one picture: as many as there are colours that everybody can tell apart."""
LINES = 12
"""Curves in one picture, over all runs."""


@dataclass(frozen=True)
class Picture:
    """One picture, not drawn yet."""

    group: str
    kind: str
    """Part of the file's name: "speedup", "throughput", "strategies"."""
    page: int
    """From 1."""
    pages: int
    figure: Callable[[Sequence[str]], Figure]
    """Draws it, with some more notes below."""


def pictures(group: str, stack: Sequence[Layer]) -> list[Picture]:
    """All pictures of a group, page after page."""
    found: list[Picture] = []
    for kind, drawn in (*_speedups(stack), *_throughputs(stack), ("strategies", strategies(stack))):
        found += [
            Picture(group, kind, page, len(drawn), figure)
            for page, figure in enumerate(drawn, start=1)
        ]
    return found


Figures = list[Callable[[Sequence[str]], "Figure"]]
Plotted = tuple[Layer, SeriesResult, tuple[figures.Point, ...]]


def _speedups(stack: Sequence[Layer]) -> Iterator[tuple[str, Figures]]:
    """Speedup over workers, of every series with two points that have their base."""
    plotted: list[Plotted] = []
    missing: list[tuple[str, str]] = []
    for layer in stack:
        for series in layer.view.group.series:
            rows = [row for row in series.results if row.relative is not None]
            if series.counts_workers and len(rows) > 1:
                plotted.append((layer, series, tuple(_scaling_point(row) for row in rows)))
            if series.counts_workers:
                missing += [
                    (layer.called(layer.view.called(row.arm)), row.no_relative)
                    for row in series.results
                    if row.no_relative
                ]
    notes = [f"No relative speedup: {reason}." for reason in wording.by_reason(missing)]
    if any(p.hollow for *_, points in plotted for p in points):
        notes.insert(0, "Hollow: oversubscribed, without efficiency and outside every fit.")
    if any(series.serial_fraction for _, series, _ in plotted):
        notes.insert(0, "Thin dashes: Amdahl's law with the fitted serial fraction.")
    limits = _limits(stack)
    subtitle = "Relative speedup: how many times as fast as the same code on one worker"
    if any(base for _, series, _ in plotted for base in _other_bases(series)):
        subtitle = "Relative speedup: how many times as fast as its base"

    def figure(page: Sequence[figures.Curve], frame: Frame) -> Figure:
        return figures.scaling(frame, page, limits)

    drawn = _curve_pages(stack, plotted, subtitle, notes, figure)
    if drawn:
        yield "speedup", drawn


def _throughputs(stack: Sequence[Layer]) -> Iterator[tuple[str, Figures]]:
    """Throughput over every axis of numbers that counts no workers: the batch sizes."""
    by_axis: dict[tuple[str, str], list[tuple[Layer, SeriesResult]]] = {}
    for layer in stack:
        for series in layer.view.group.series:
            places = {_place(row) for row in series.results if row.throughput}
            if series.axis and not series.counts_workers and len(places - {None}) > 1:
                unit = visible(series.results[0].arm.unit)
                by_axis.setdefault((series.axis, unit), []).append((layer, series))
    for (axis, unit), found in by_axis.items():
        rates = [r.throughput.value for _, s in found for r in s.results if r.throughput]
        prefix, size = wording.rate_unit(rates)
        plotted = [
            (layer, series, tuple(_rate_points(series.results, size))) for layer, series in found
        ]
        measure, name = wording.rate_name(prefix, unit), visible(axis)
        notes = [
            "Hollow: oversubscribed."
            for *_, points in plotted
            if any(point.hollow for point in points)
        ][:1]

        def figure(
            page: Sequence[figures.Curve], frame: Frame, name: str = name, measure: str = measure
        ) -> Figure:
            return figures.against(frame, page, name, measure)

        subtitle = f"Throughput against {name}"
        kind = "throughput" if len(by_axis) == 1 else f"throughput-{name}-{unit}"
        yield kind, _curve_pages(stack, plotted, subtitle, notes, figure)


def _curve_pages(
    stack: Sequence[Layer],
    plotted: Sequence[Plotted],
    subtitle: str,
    notes: Sequence[str],
    figure: Callable[[Sequence[figures.Curve], Frame], Figure],
) -> Figures:
    """Some series a page, the same series of all runs together and in one colour."""
    names = list(dict.fromkeys(_series_name(series) for _, series, _ in plotted))
    aside = "Curves stand a little to the side of each other, so that each is seen."
    most = max(1, min(CURVES, LINES // len(stack)))
    pages = max(1, math.ceil(len(names) / most))
    step = max(1, math.ceil(len(names) / pages))
    chunks = [names[i : i + step] for i in range(0, len(names), step)]

    def page(number: int, chunk: Sequence[str]) -> Callable[[Sequence[str]], Figure]:
        curves = [
            figures.Curve(
                _series_name(series),
                layer.label,
                points,
                series.serial_fraction.value if series.serial_fraction else None,
                chunk.index(_series_name(series)),
                layer.place,
            )
            for layer, series, points in plotted
            if _series_name(series) in chunk
        ]
        told = paged(subtitle, number, len(chunks))
        said = [aside, *notes] if len(curves) > 1 else notes
        return lambda more: figure(curves, framed(stack, told, [*said, *more]))

    return [page(i, chunk) for i, chunk in enumerate(chunks, start=1)]


def _series_name(series: SeriesResult) -> str:
    weak = any(row.arm.scaling == "weak" for row in series.results)
    return visible(series.label) + (" (weak)" if weak else "")


def _other_bases(series: SeriesResult) -> Iterator[str]:
    own = {row.arm.fullname for row in series.results}
    for row in series.results:
        if row.relative_base is not None and row.relative_base.fullname not in own:
            yield row.relative_base.fullname


def _limits(stack: Sequence[Layer]) -> list[tuple[int, str]]:
    """Usable CPUs with their words; machines that have as many share a line."""
    machines: dict[int, list[str]] = {}
    for layer in stack:
        count = wording.usable_cpus(layer.view.run)
        if count is not None:
            machines.setdefault(count, []).append(layer.label)
    return [
        (
            count,
            f"{count} usable CPU{'s' * (count != 1)}"
            + (f" ({wording.enumeration(labels, 2)})" if len(machines) > 1 else ""),
        )
        for count, labels in sorted(machines.items())
    ]


def _scaling_point(row: ArmResult) -> figures.Point:
    assert row.relative is not None
    return figures.Point(row.arm.workers, row.relative, row.efficiency, row.arm.oversubscribed)


def _place(row: ArmResult) -> float | None:
    """Where an arm stands on its axis; None where that is no number."""
    place = row.arm.params.get(row.arm.axis or "")
    return place if isinstance(place, (int, float)) and is_number(place) else None


def _rate_points(rows: Sequence[ArmResult], size: float) -> Iterator[figures.Point]:
    for row in rows:
        place = _place(row)
        if place is not None and row.throughput is not None:
            rate = scaled(row.throughput, size)
            yield figures.Point(place, rate, None, row.arm.oversubscribed)
