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
PARTS = 5
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
    """Loss over epochs; below it loss and accuracy over seconds."""
    from matplotlib.ticker import LogLocator

    data, _, made_with = title.rpartition(": ")  # a folder's name may have a colon, too
    frame = Frame(
        title=f"training {data}",
        subtitle=f"{made_with}; one run of each strategy",
        source=_machine(),
        warning=None,
        notes=(
            "Above, losses are means over fifths of an epoch; below, over whole ones. Seconds are "
            "of the steps alone; one run each, one after another: no speedups.",
        ),
    )
    right = 0.75 + max(text_width(run.strategy, LABEL) for run in runs)
    figure, (over_epochs, loss, accuracy) = sheet(frame, [2.4, 1.8, 2.4], 0.75, right, gap=0.55)
    for look, run in enumerate(runs):
        pen = {
            "color": COLOURS[look % len(COLOURS)],
            "linestyle": DASHES[look // len(COLOURS) % len(DASHES)],
            "linewidth": 1.4,
        }
        dots = {**pen, "marker": "o", "markersize": 3}
        over_epochs.plot(*smoothed(run), **pen)
        seconds = np.cumsum([epoch.seconds for epoch in run.epochs])
        loss.plot(seconds, [epoch.loss for epoch in run.epochs], **dots)
        percent = [100 * epoch.accuracy for epoch in run.epochs]
        accuracy.plot(seconds, percent, **dots, label=run.strategy)
    for ax in (over_epochs, loss):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_ylabel("loss in training")
    over_epochs.set_xlabel("epochs")
    over_epochs.set_xlim(0, max(len(run.epochs) for run in runs))
    for ax in (loss, accuracy):
        ax.set_xscale("log", subs=[])
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
    loss.tick_params(labelbottom=False)
    accuracy.set_xlabel("seconds of training")
    accuracy.set_ylabel("accuracy on test images")
    accuracy.yaxis.set_major_formatter("{x:g} %")
    _mark_goal(accuracy, goal)
    edge = over_epochs.get_position()
    figure.legend(
        loc="upper left", bbox_to_anchor=(edge.x1 + 0.02, edge.y1),
        frameon=False, fontsize=LABEL, handlelength=1.8, borderaxespad=0,
    )  # fmt: skip
    return figure


def _machine() -> str:
    machine = describe()
    cpu = str(machine["cpu_model"]).replace("(R)", "").replace("(TM)", "")
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("numpy", "torch"))
    return f"{cpu}, {machine['usable_cpus']} usable CPUs, {versions}"


def smoothed(run: Run) -> tuple[NDArray, NDArray]:
    """Epochs behind the middle of each fifth of an epoch, and the mean loss there."""
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
