"""Blocks of bars over time on a logarithmic axis: a block a case, a bar a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_speedup import wording
from pytest_speedup.estimate import Estimate
from pytest_speedup.sheet import COLOURS, GREY, WIDTH, Frame, sheet, shorten, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PITCH = 0.2
"""Inches from one bar to the next."""
SIZE = 8.0
LABEL_CELLS = 30
PAST = 0.1
"""Decades past the longest time up to which the axis has ticks."""


@dataclass(frozen=True)
class DeviceBar:
    """One arm, or a device without one."""

    device: str
    look: int
    """Which colour: the device."""
    seconds: Estimate | None
    """None where the device has no arm."""
    told: str
    """What is written at its end."""
    ratio: str
    """What stands in the column on the right."""
    arm: str


@dataclass(frozen=True)
class Block:
    """One case."""

    name: str
    bars: tuple[DeviceBar, ...]


def device_bars(
    frame: Frame, blocks: Sequence[Block], devices: Sequence[str], ratio: str
) -> Figure:
    """Blocks from the top down; `devices` in the order of their colours, `ratio` heads a column."""
    labels = [[shorten(bar.arm, LABEL_CELLS, 1) for bar in block.bars] for block in blocks]
    left = 0.32 + max(text_width(label, SIZE) for several in labels for label in several)
    ratios = [bar.ratio for block in blocks for bar in block.bars]
    right = 0.4 + max(text_width(text, SIZE) for text in (*ratios, ratio))
    rows, heads = _rows(blocks)
    figure, (ax,) = sheet(
        frame, [PITCH * (rows[-1] + 1.2)], left, right, above=0.04 + 0.17 * len(devices)
    )
    bars = [bar for block in blocks for bar in block.bars]
    _axis(ax, bars, WIDTH - left - right)
    edge, column = 72 * (0.15 - left), 72 * (right - 0.15)  # points from the axes
    ax.set_ylim(rows[-1] + 0.8, -0.4)
    for row, bar in zip(rows, bars, strict=True):
        _bar(ax, row, bar)
        ax.annotate(
            bar.ratio, (1, row), (column, 0), xycoords=ax.get_yaxis_transform(),
            textcoords="offset points", fontsize=SIZE, va="center", ha="right",
            fontweight="bold" if bar.ratio == "base" else "normal",
        )  # fmt: skip
    for row, block in zip(heads, blocks, strict=True):
        ax.annotate(
            shorten(block.name, 100, 1), (0, row), (edge, 0), va="center",
            xycoords=ax.get_yaxis_transform(), textcoords="offset points", fontsize=SIZE + 0.5,
            fontweight="bold",
        )  # fmt: skip
    ax.annotate(
        ratio, (1, 1), (column, 4), xycoords="axes fraction", color=GREY,
        textcoords="offset points", fontsize=SIZE, ha="right",
    )  # fmt: skip
    for i, device in enumerate(devices):
        ax.annotate(
            f"■ {shorten(device, 60, 1)}", (0, 1), (edge, 4 + 12 * (len(devices) - 1 - i)),
            xycoords="axes fraction", textcoords="offset points", fontsize=SIZE + 0.5,
            color=_colour(i),
        )  # fmt: skip
    ax.spines["left"].set_visible(False)
    names = [label for several in labels for label in several]
    ax.set_yticks(rows, names, fontsize=SIZE)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    return figure


def _rows(blocks: Sequence[Block]) -> tuple[list[float], list[float]]:
    """Where each bar and each block's name stands, in bars from the top."""
    rows, heads, row = list[float](), list[float](), 0.0
    for block in blocks:
        heads.append(row + 0.15)
        rows += [row + 1.05 + i for i in range(len(block.bars))]
        row = rows[-1] + 1.35
    return rows, heads


def _axis(ax: Axes, bars: Sequence[DeviceBar], inches: float) -> None:
    """From below the shortest time on, with room for what is written at each bar's end."""
    known = [(_ends(bar.seconds), text_width(bar.told, SIZE) + 0.15) for bar in bars if bar.seconds]
    first = math.log10(min(low for (low, _), _ in known)) - 0.3
    decades = max(
        (math.log10(high) - first) / max(0.2, 1 - room / inches) for (_, high), room in known
    )
    last = max(math.log10(high) for (_, high), _ in known)
    ax.set_xscale("log")
    ax.set_xlim(10**first, 10 ** (first + decades))
    ticks = [
        step * 10.0**i
        for i in range(math.floor(first), math.floor(last + PAST) + 1)
        for step in ((1,) if last - first > 2 else (1, 2, 5))
        if first <= math.log10(step * 10.0**i) <= last + PAST
    ]
    ax.set_xticks(ticks, [_tick(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("time per call")


def _tick(seconds: float) -> str:
    name, size = wording.time_unit([seconds * (1 + 1e-9)])
    return f"{seconds / size:.0f} {name}"


def _bar(ax: Axes, row: float, bar: DeviceBar) -> None:
    start = ax.get_xlim()[0]
    if bar.seconds is None:
        ax.annotate(
            bar.told, (start, row), (5, 0), textcoords="offset points", va="center", fontsize=SIZE
        )
        return
    value, (low, high) = bar.seconds.value, _ends(bar.seconds)
    ax.barh([row], [value - start], left=start, height=0.72, color=_colour(bar.look))
    if bar.seconds.low is not None:
        ax.errorbar(
            [value], [row], xerr=[[value - low], [high - value]], fmt="none", ecolor="black",
            elinewidth=0.9, capsize=2,
        )  # fmt: skip
    ax.annotate(
        bar.told, (high, row), (5, 0), textcoords="offset points", va="center", fontsize=SIZE
    )


def _ends(seconds: Estimate) -> tuple[float, float]:
    low = seconds.value if seconds.low is None else seconds.low
    return low, seconds.value if seconds.high is None else seconds.high


def _colour(look: int) -> str:
    return COLOURS[look % len(COLOURS)]
