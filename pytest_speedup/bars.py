"""All strategies of a group side by side: how much each gets done, and its speedup at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_speedup.estimate import Estimate
from pytest_speedup.sheet import COLOURS, GREY, Frame, sheet, shorten, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PITCH = 0.235
"""Inches from one bar to the next."""
SIZE = 8.5
LABEL_CELLS = 44
BASE, FASTEST = "#4D4D4D", "#009E73"


@dataclass(frozen=True)
class Bar:
    """One arm of one run."""

    label: str
    value: Estimate
    told: str
    """What is written at its end: the speedup, or that it is the base."""
    base: bool
    fastest: bool
    hatched: bool
    """Whether it is oversubscribed."""
    apart: bool
    """Whether it ran on another kind of device than the base, on a scale of its own."""
    run: str
    """What tells its run from the others; empty where there is one run."""
    look: int
    """Which colour: the run."""


def bars(frame: Frame, drawn: Sequence[Bar], measure: str) -> Figure:
    """Bars from the top down in the order given; those of other devices in a panel below.

    `measure` is the label of the axis.
    """
    panels = [p for p in ([b for b in drawn if not b.apart], [b for b in drawn if b.apart]) if p]
    labels = [[shorten(bar.label, LABEL_CELLS, lines=1) for bar in panel] for panel in panels]
    left = 0.3 + max(text_width(label, SIZE) for panel in labels for label in panel)
    heights = [PITCH * (_rows(panel)[-1] + 1) + 0.08 for panel in panels]
    runs = {bar.run: _colour(bar) for bar in drawn if bar.run}
    figure, axes = sheet(frame, heights, left, right=0.3, above=0.1 + 0.17 * len(runs), gap=0.75)
    for i, (run, colour) in enumerate(reversed(runs.items())):
        axes[0].annotate(
            f"■ {shorten(run, 90, 1)}", (0, 1), (0, 4 + 12 * i), xycoords="axes fraction",
            textcoords="offset points", fontsize=SIZE, color=colour,
        )  # fmt: skip
    for ax, panel, names in zip(axes, panels, labels, strict=True):
        _panel(ax, panel, names)
        ax.set_xlabel(shorten(measure, 60, 1))
    if len(panels) == 2:
        axes[1].set_title("other devices (a ratio, not a parallel speedup)", loc="left", color=GREY)
    return figure


def _panel(ax: Axes, panel: Sequence[Bar], labels: Sequence[str]) -> None:
    rows = _rows(panel)
    drawn = ax.barh(
        rows,
        [bar.value.value for bar in panel],
        height=0.72,
        color=[_colour(bar) for bar in panel],
    )
    for patch, bar in zip(drawn, panel, strict=True):
        if bar.hatched:
            patch.set(facecolor="white", edgecolor=_colour(bar), hatch="//////", linewidth=0.8)
    ends = [
        (row, b.value.value, b.value.low, b.value.high) for row, b in zip(rows, panel, strict=True)
    ]
    known = [(i, v, low, high) for i, v, low, high in ends if low is not None and high is not None]
    if known:
        ax.errorbar(
            [v for _, v, _, _ in known], [i for i, *_ in known],
            xerr=[[v - low for _, v, low, _ in known], [high - v for _, v, _, high in known]],
            fmt="none", ecolor="black", elinewidth=0.9, capsize=2,
        )  # fmt: skip
    for bar, (i, value, _, high) in zip(panel, ends, strict=True):
        ax.annotate(
            bar.told, (max(value, high or 0), i), (5, 0), textcoords="offset points", va="center",
            fontsize=SIZE, fontweight="bold" if bar.base or bar.fastest else "normal",
        )  # fmt: skip
    longest = max(max(value, high or 0) for _, value, _, high in ends)
    room = 0.15 + max(text_width(bar.told, SIZE + 0.7) for bar in panel)
    inches = ax.get_position().width * ax.figure.get_figwidth()  # type: ignore[union-attr]
    ax.set_xlim(0, longest / max(0.3, 1 - room / inches))
    ax.set_ylim(rows[-1] + 0.6, -0.6)
    named = [
        (row, label)
        for i, (row, label) in enumerate(zip(rows, labels, strict=True))
        if not _continues(panel, i)
    ]
    ax.set_yticks([row for row, _ in named], [label for _, label in named], fontsize=SIZE)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_formatter("{x:,g}")


def _rows(panel: Sequence[Bar]) -> list[float]:
    """Where each bar stands, in bars from the top: those of one arm together, arms apart."""
    apart = 1.35 if any(_continues(panel, i) for i in range(len(panel))) else 1.0
    rows = [0.0]
    for i in range(1, len(panel)):
        rows.append(rows[-1] + (0.8 if _continues(panel, i) else apart))
    return rows


def _continues(panel: Sequence[Bar], i: int) -> bool:
    """Whether a bar is the arm of the bar above in another run."""
    return i > 0 and panel[i].label == panel[i - 1].label


def _colour(bar: Bar) -> str:
    if not bar.run and bar.base:
        return BASE
    if not bar.run and bar.fastest:
        return FASTEST
    return COLOURS[bar.look % len(COLOURS)]
