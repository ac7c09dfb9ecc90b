"""Curves: speedup and efficiency against workers, throughput against batch size.

Points are joined along the axis alone, where what lies between two of them means something.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_speedup.estimate import Estimate
from pytest_speedup.scaling import amdahl_speedup
from pytest_speedup.sheet import COLOURS, DASHES, GREY, MARKERS, Frame, sheet, shorten, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINEAR_UP_TO = 16
"""Workers; beyond, both axes are logarithmic, so that the ideal stays a straight line."""
LEFT = 0.75
LABEL_SIZE = 8.5


@dataclass(frozen=True)
class Point:
    """One arm on a curve."""

    x: float
    y: Estimate
    efficiency: Estimate | None
    hollow: bool
    """Whether it is oversubscribed."""


@dataclass(frozen=True)
class Curve:
    """One series of one run."""

    label: str
    run: str
    """What tells its run from the others; empty where there is one run."""
    points: tuple[Point, ...]
    """In the order of x."""
    serial_fraction: float | None
    look: int
    """Which colour and marker: the series."""
    dash: int
    """Which dashing: the run."""


def scaling(frame: Frame, curves: Sequence[Curve], limits: Sequence[tuple[int, str]]) -> Figure:
    """Relative speedup over workers, and below it the efficiency where there is any.

    `limits` are the usable CPUs of each machine with what to write beside that line.
    """
    labels = [_label(curve) for curve in curves]
    right = 0.45 + max(text_width(label, LABEL_SIZE) for label in labels)
    efficient = any(p.efficiency for curve in curves for p in curve.points)
    heights = [3.4, 1.6] if efficient else [3.4]
    figure, axes = sheet(frame, heights, LEFT, right, above=0.08 + 0.14 * len(limits))
    xs = {point.x for curve in curves for point in curve.points} | {1.0}
    log = max(xs) > LINEAR_UP_TO
    for ax in axes:
        _workers_axis(ax, xs, limits, log)
    axes[-1].set_xlabel("workers")
    for ax in axes[:-1]:
        ax.tick_params(labelbottom=False)
    _speedups(axes[0], curves, limits, max(xs), log)
    _name_limits(axes[0], limits)
    _name_curves(axes[0], curves, labels)
    if efficient:
        _efficiencies(axes[1], curves)
    return figure


def against(frame: Frame, curves: Sequence[Curve], axis: str, measure: str) -> Figure:
    """`measure` (the y axis' label) over the values of `axis`, such as a batch size."""
    labels = [_label(curve) for curve in curves]
    right = 0.45 + max(text_width(label, LABEL_SIZE) for label in labels)
    figure, (ax,) = sheet(frame, [3.6], LEFT, right)
    xs = {point.x for curve in curves for point in curve.points}
    log = min(xs) > 0 and max(xs) / min(xs) > 3
    if log:
        ax.set_xscale("log", base=2)
        ax.set_xlim(min(xs) / 1.15, max(xs) * 1.15)
    else:
        ax.set_xlim(min(xs) - 0.06 * (max(xs) - min(xs)), max(xs) + 0.06 * (max(xs) - min(xs)))
    _ticks(ax, xs)
    ax.set_xlabel(shorten(axis, 60, 1))
    ax.set_ylabel(shorten(measure, 40, 1))
    for curve, aside in zip(curves, _aside(curves), strict=True):
        _draw(ax, curve, aside, [(p.x, p.y, p.hollow) for p in curve.points])
    ax.set_ylim(0, 1.06 * max(_high(p.y) for curve in curves for p in curve.points))
    ax.yaxis.set_major_formatter("{x:,g}")
    _name_curves(ax, curves, labels)
    return figure


def _speedups(
    ax: Axes, curves: Sequence[Curve], limits: Sequence[tuple[int, str]], most: float, log: bool
) -> None:
    highest = max(_high(p.y) for curve in curves for p in curve.points)
    lowest = min(p.y.value if p.y.low is None else p.y.low for c in curves for p in c.points)
    # the ideal may leave the picture at the top: drawn to its end it would flatten the curves
    top = max(1.2 * highest, min(most, 1.1 * max((cpus for cpus, _ in limits), default=1)), 1.5)
    if log:
        ax.set_yscale("log", base=2)
        ax.set_ylim(min(0.9, lowest / 1.15), top * 1.1)
        first, last = math.floor(math.log2(min(0.9, lowest))), math.ceil(math.log2(top))
        ticks = [2.0**i for i in range(first, last + 1)]
        ax.set_yticks([t for t in ticks if ax.get_ylim()[0] <= t <= ax.get_ylim()[1]])
    else:
        ax.set_ylim(0, top)
        ax.yaxis.get_major_locator().set_params(nbins=8, steps=[1, 2, 5, 10])  # type: ignore[call-arg]
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.set_ylabel("relative speedup")

    end = min(most, ax.get_ylim()[1])
    ax.plot([1, end], [1, end], color=GREY, linewidth=0.9, zorder=1)
    # above the line: below it are the curves
    place = end**0.7 if log else 0.8 * end
    ax.annotate(
        "ideal", (place, place), (-5, 3), textcoords="offset points",
        ha="right", va="bottom", fontsize=8, color=GREY,
    )  # fmt: skip
    for curve, aside in zip(curves, _aside(curves), strict=True):
        _draw(ax, curve, aside, [(p.x, p.y, p.hollow) for p in curve.points])
        if curve.serial_fraction is not None:
            grid = range(1, round(most) + 1)
            fit = [amdahl_speedup(curve.serial_fraction, workers) for workers in grid]
            ax.plot(
                grid, fit, color=_colour(curve), linewidth=0.8, linestyle=(0, (5, 3)), zorder=1.5
            )


def _efficiencies(ax: Axes, curves: Sequence[Curve]) -> None:
    ax.axhline(1, color=GREY, linewidth=0.9, zorder=1)
    drawn = [(c, [(p.x, p.efficiency, False) for p in c.points if p.efficiency]) for c in curves]
    for (curve, points), aside in zip(drawn, _aside(curves), strict=True):
        _draw(ax, curve, aside, points)
    highest = max(_high(estimate) for _, points in drawn for _, estimate, _ in points)
    ax.set_ylim(0, max(1.1, 1.06 * highest))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    ax.set_ylabel("efficiency")


def _draw(
    ax: Axes, curve: Curve, aside: float, points: Sequence[tuple[float, Estimate, bool]]
) -> None:
    """A curve with intervals; hollow markers where a point is oversubscribed."""
    from matplotlib.transforms import ScaledTranslation

    inches = ax.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    where = ax.transData + ScaledTranslation(aside / 72, 0, inches)
    colour, marker = _colour(curve), MARKERS[curve.look % len(MARKERS)]
    xs, ys = [x for x, _, _ in points], [y.value for _, y, _ in points]
    dash = DASHES[curve.dash % len(DASHES)]
    ax.plot(xs, ys, color=colour, linewidth=1.5, linestyle=dash, transform=where)
    known = [(x, y.low, y.high) for x, y, _ in points if y.low is not None and y.high is not None]
    for x, low, high in known:
        ax.plot([x, x], [low, high], "_-", color=colour, linewidth=1, markersize=5, transform=where)
    for hollow in (False, True):
        chosen = [(x, y.value) for x, y, h in points if h is hollow]
        ax.plot(
            [x for x, _ in chosen], [y for _, y in chosen], marker, color=colour, markersize=5.5,
            markerfacecolor="white" if hollow else colour, markeredgewidth=1.2, zorder=3,
            transform=where,
        )  # fmt: skip


def _aside(curves: Sequence[Curve]) -> list[float]:
    """Points by which each curve is moved sideways, so that equal ones hide none of the others."""
    step = min(3.0, 12 / len(curves))
    return [step * (i - (len(curves) - 1) / 2) for i in range(len(curves))]


def _label(curve: Curve) -> str:
    run = f"\n{shorten(curve.run, 26, 1)}" if curve.run else ""
    return shorten(curve.label, 26, 1 if run else 2) + run


def _workers_axis(
    ax: Axes, xs: Iterable[float], limits: Sequence[tuple[int, str]], log: bool
) -> None:
    most = max(xs)
    if log:
        ax.set_xscale("log", base=2)
        ax.set_xlim(0.87, most * 1.15)
    else:
        ax.set_xlim(1 - 0.06 * max(most - 1, 1), most + 0.06 * max(most - 1, 1))
    _ticks(ax, xs)
    for cpus, _ in limits:
        if cpus <= most:
            ax.axvline(cpus, color=GREY, linewidth=1, linestyle=(0, (1, 2)), zorder=1)


def _name_limits(ax: Axes, limits: Sequence[tuple[int, str]]) -> None:
    """What the vertical lines are, above the axes, where no curve can cross the words."""
    most = ax.get_xlim()[1]
    for row, (cpus, text) in enumerate(limits):
        if cpus <= most:
            ax.annotate(
                shorten(text, 60, 1), (cpus, 1), (0, 3 + 10 * row),
                xycoords=ax.get_xaxis_transform(),
                textcoords="offset points", ha="center" if cpus < 0.7 * most else "right",
                fontsize=8, color=GREY,
            )  # fmt: skip


def _name_curves(ax: Axes, curves: Sequence[Curve], labels: Sequence[str]) -> None:
    """Each curve's name beside its last point, moved apart where they would touch."""
    heights = [0.145 * (1 + label.count("\n")) for label in labels]
    inches = ax.get_position().height * ax.figure.get_figheight()  # type: ignore[union-attr]
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [float(to_axes.transform((c.points[-1].x, c.points[-1].y.value))[1]) for c in curves]
    places = _apart([end * inches for end in ends], heights, inches)
    for curve, label, place in zip(curves, labels, places, strict=True):
        last = curve.points[-1]
        ax.annotate(
            label, (last.x, last.y.value), (1.03, place / inches), textcoords="axes fraction",
            va="center", ha="left", fontsize=LABEL_SIZE, color=_colour(curve), linespacing=0.95,
            arrowprops={"arrowstyle": "-", "color": _colour(curve), "linewidth": 0.6,
                        "linestyle": (0, (1, 2)), "shrinkA": 1, "shrinkB": 5, "relpos": (0, 0.5)},
        )  # fmt: skip


def _apart(wanted: Sequence[float], heights: Sequence[float], room: float) -> list[float]:
    """Centres of labels near `wanted` that do not overlap: pushed up from below, then back down."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = list(wanted)
    edge = 0.0
    for i in order:
        places[i] = max(places[i], edge + heights[i] / 2)
        edge = places[i] + heights[i] / 2
    edge = room
    for i in reversed(order):
        places[i] = min(places[i], edge - heights[i] / 2)
        edge = places[i] - heights[i] / 2
    return places


def _ticks(ax: Axes, xs: Iterable[float]) -> None:
    """Ticks at the values that were measured, or of many at powers of two; plain numbers."""
    values = sorted(set(xs))
    if len(values) > 9:
        powers = [2.0**i for i in range(math.floor(math.log2(max(values[-1], 1))) + 1)]
        values = [power for power in powers if power >= values[0]]
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.set_xticks([], minor=True)


def _high(estimate: Estimate) -> float:
    return estimate.value if estimate.high is None else estimate.high


def _colour(curve: Curve) -> str:
    return COLOURS[curve.look % len(COLOURS)]
