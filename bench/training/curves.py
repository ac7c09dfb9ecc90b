"""Loss and accuracy of training runs as curves: over epochs, where strategies should agree, and
over seconds, where they should not.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.training.checkpoint import replace
from bench.training.run import Run
from pytest_speedup.machine import describe
from pytest_speedup.sheet import COLOURS, DASHES, GREY, Frame, sheet, style, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "curves.png"
PARTS = 10
"""Of an epoch; the losses of each are drawn as their mean."""
LABEL = 8.5


def draw(folder: Path, runs: Sequence[Run], goal: float, title: str) -> Path:
    """Write the picture as PNG; raises OSError, the former one being whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn = io.BytesIO()
    with style():
        figure = curves(runs, goal, title)
        FigureCanvasAgg(figure)
        figure.savefig(drawn, format="png", dpi=150, metadata={"Software": None})
    replace(folder / NAME, drawn.getvalue())
    return folder / NAME


def curves(runs: Sequence[Run], goal: float, title: str) -> Figure:
    """Loss over epochs; loss and accuracy over seconds."""
    machine = describe()
    frame = Frame(
        title=f"training {title}",
        subtitle="loss in training and accuracy on the test images, one run of each strategy",
        source=f"{machine['cpu_model']}, {machine['usable_cpus']} usable CPUs",
        warning=None,
        notes=(
            "Losses are means over tenths of an epoch, accuracies are taken at its end. Seconds "
            "are of the steps alone; one run each, one after another: no speedups.",
        ),
    )
    right = 0.75 + max(text_width(run.strategy, LABEL) for run in runs)
    figure, (by_epoch, by_second, right_ones) = sheet(frame, [2.2, 2.2, 2.2], 0.75, right, gap=0.62)
    for look, run in enumerate(runs):
        epochs, losses = smoothed(run)
        pen = {
            "color": COLOURS[look % len(COLOURS)],
            "linestyle": DASHES[look // len(COLOURS) % len(DASHES)],
            "linewidth": 1.4,
        }
        spent = np.cumsum([0, *(epoch.seconds for epoch in run.epochs)])
        by_epoch.plot(epochs, losses, **pen)
        by_second.plot(np.interp(epochs, range(len(spent)), spent), losses, **pen)
        accuracies = [100 * epoch.accuracy for epoch in run.epochs]
        right_ones.plot(spent[1:], accuracies, marker="o", markersize=3, **pen, label=run.strategy)
    for ax in (by_epoch, by_second):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_ylabel("loss")
    by_epoch.set_xlabel("epochs")
    by_epoch.set_xlim(0, max(len(run.epochs) for run in runs))
    for ax in (by_second, right_ones):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel("seconds of training")
    right_ones.set_ylabel("test accuracy")
    right_ones.yaxis.set_major_formatter("{x:g} %")
    _mark_goal(right_ones, goal)
    figure.legend(
        loc="upper left", bbox_to_anchor=(1 - (right - 0.12) / 7.6, by_epoch.get_position().y1),
        frameon=False, fontsize=LABEL, handlelength=1.8, borderaxespad=0,
    )  # fmt: skip
    return figure


def smoothed(run: Run) -> tuple[NDArray, NDArray]:
    """Epochs behind the middle of each tenth of an epoch, and the mean loss there."""
    per_epoch = len(run.losses) / len(run.epochs)
    steps = np.arange(len(run.losses))
    part = (steps / per_epoch * PARTS).astype(int)
    counts = np.maximum(1, np.bincount(part))
    there = np.bincount(part) > 0
    middles = np.bincount(part, (steps + 0.5) / per_epoch) / counts
    return middles[there], (np.bincount(part, run.losses) / counts)[there]


def _mark_goal(ax: Axes, goal: float) -> None:
    ax.axhline(100 * goal, color=GREY, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    ax.annotate(
        f"{100 * goal:.1f} %", (0, 100 * goal), (4, 2), xycoords=("axes fraction", "data"),
        textcoords="offset points", fontsize=8, color=GREY,
    )  # fmt: skip
