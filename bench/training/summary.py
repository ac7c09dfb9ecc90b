"""Training runs side by side: a table, `metrics.json` and the curves, beside the checkpoints.

Runs of earlier sessions belong to it where they were made from the same: those over MPI ranks have
sessions of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.training.checkpoint import path_of, read_run, replace
from bench.training.run import Recipe, Run
from bench.training.strategies import STRATEGIES
from models import InputError
from pytest_speedup.columns import Column, lay_out
from pytest_speedup.fields import encodable, visible
from pytest_speedup.machine import describe

DIGITS_GOAL = 0.97
METRICS = "metrics.json"
HONEST = (
    "Seconds are of the steps alone, without warm-up, laying out batches, test and checkpoint.",
    "One run of each, one after another, no interval: times to accuracy, no speedups; those are "
    "the business of --benchmark-only.",
)


def summarise(done: Mapping[str, Run], folder: Path, reporter: pytest.TerminalReporter) -> None:
    """All of it, at a session's end; `done` are the runs of this session."""
    runs, problems = side_by_side(folder, next(iter(done.values())))
    encoding = getattr(reporter._tw._file, "encoding", None) or "utf-8"
    reporter.section("training")
    for line in table(runs, here=done):
        reporter.write_line(encodable(line, encoding))
    try:
        files = write(folder, runs, here=done)
        reporter.write_line("")
        reporter.write_line(visible(f"Weights in {folder}/STRATEGY.npz; {' and '.join(files)}."))
    except OSError as error:
        problems.append(f"{folder}: no metrics or curves ({error.strerror}); make room there")
    for problem in problems:
        reporter.write_line(visible(problem), yellow=True)


def alike(recipe: Recipe) -> Recipe:
    """What runs have in common that may stand side by side."""
    return {key: value for key, value in recipe.items() if key != "strategy"}


def side_by_side(folder: Path, like: Run) -> tuple[list[Run], list[str]]:
    """The runs of a folder that were made from the same as `like`, and what could not be read."""
    runs, problems = [], []
    for path in (path_of(folder, name) for name in STRATEGIES):
        try:
            run = read_run(path) if path.exists() else None
        except InputError as error:
            problems.append(str(error))
            continue
        if run is not None and alike(run.recipe) == alike(like.recipe):
            runs.append(run)
    return runs, problems


def goal_of(runs: Sequence[Run]) -> float:
    """The accuracy to which time is told: 97 % of the digits, else what every run reached."""
    if runs[0].recipe["data"] == "digits":
        return DIGITS_GOAL
    return min(run.best for run in runs)


def title(recipe: Recipe) -> str:
    """`cifar_cnn on digits, 1,437 images: batch 32, sgd, lr 0.01, momentum 0.9`."""
    momentum = f", momentum {recipe['--momentum']}" if recipe["--optimizer"] == "sgd" else ""
    return visible(
        f"{recipe['network']} on {recipe['data']}, {recipe['training images']:,} images: "
        f"batch {recipe['--batch-size']}, {recipe['--optimizer']}, lr {recipe['--lr']}{momentum}"
    )


def table(runs: Sequence[Run], here: Collection[str]) -> list[str]:
    """Lines for a terminal; `here` are the strategies of this session."""
    goal = goal_of(runs)

    def column(head: str, cell: Callable[[Run], str], *, right: bool = True) -> Column:
        return Column(head, tuple(cell(run) for run in runs), right)

    def name(run: Run) -> str:
        return run.strategy + "*" * (run.strategy not in here) + "+" * bool(run.resumed)

    def to_goal(run: Run) -> str:
        seconds = run.seconds_to(goal)
        return "not reached" if seconds is None else f"{seconds:.1f}"

    columns = [
        column("strategy", name, right=False),
        column("epochs", lambda run: str(len(run.epochs))),
        column("final", lambda run: _percent(run.final)),
        column("best", lambda run: _percent(run.best)),
        column(f"s to {_percent(goal)}", to_goal),
        column("s/epoch", lambda run: f"{run.seconds / len(run.epochs):.2f}"),
        column("images/s", lambda run: f"{run.images_per_second:,.0f}"),
        column("loss", lambda run: f"{run.epochs[-1].loss:.4f}"),
    ]
    notes = list(HONEST)
    if any(run.strategy not in here for run in runs):
        notes.append("* of an earlier session, when the machine may have been more or less busy.")
    if any(run.resumed for run in runs):
        notes.append("+ went on from a checkpoint.")
    shown = lay_out(columns, [each.natural for each in columns])
    return [title(runs[0].recipe), "", *shown, "", *notes]


def metrics(runs: Sequence[Run], here: Collection[str]) -> Mapping[str, Any]:
    """All that is known of each run, for a JSON file."""
    goal = goal_of(runs)
    return {
        "note": " ".join(HONEST),
        "goal": goal,
        "machine": describe(),
        "runs": {
            run.strategy: {
                "final_accuracy": run.final,
                "best_accuracy": run.best,
                "seconds_to_goal": run.seconds_to(goal),
                "seconds": run.seconds,
                "images_per_second": run.images_per_second,
                "this_session": run.strategy in here,
                **asdict(run),
            }
            for run in runs
        },
    }


def write(folder: Path, runs: Sequence[Run], here: Collection[str]) -> list[str]:
    """Metrics and curves; raises OSError where one cannot be written, the former one whole."""
    from bench.training.curves import draw  # brings matplotlib

    told = folder / METRICS
    replace(told, json.dumps(metrics(runs, here), indent=1).encode())
    return [str(told), str(draw(folder, runs, goal_of(runs), title(runs[0].recipe)))]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
