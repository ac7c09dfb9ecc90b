"""Runs laid over each other, and what is written around their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_speedup import wording
from pytest_speedup.analysis import Analysis
from pytest_speedup.estimate import Estimate
from pytest_speedup.fields import visible
from pytest_speedup.sentences import View, views
from pytest_speedup.sheet import Frame


@dataclass(frozen=True)
class Layer:
    """One run's share of a picture."""

    label: str
    """What tells this run from the others; empty where there is one run."""
    place: int
    """Among the runs."""
    view: View

    def called(self, name: str) -> str:
        """A name that also tells the run where there are several."""
        return f"{name} · {self.label}" if self.label else name


def layers(analyses: Sequence[Analysis]) -> dict[str, list[Layer]]:
    """By the group's name, the runs that have times in it."""
    labels = wording.run_labels([analysis.run for analysis in analyses])
    found: dict[str, list[Layer]] = {}
    for place, (analysis, label) in enumerate(zip(analyses, labels, strict=True)):
        for view in views(analysis):
            if view.rows:
                found.setdefault(view.group.name, []).append(Layer(label, place, view))
    return found


def framed(stack: Sequence[Layer], subtitle: str, notes: Sequence[str]) -> Frame:
    """Title, machine and date, and what the intervals rest on."""
    runs = [layer.view.run for layer in stack]
    models = {str(row.arm.params.get("model", "")) for layer in stack for row in layer.view.rows}
    title = visible(stack[0].view.group.name).strip()
    if len(models) == 1 and (model := visible(models.pop())) not in title:
        title = f"{title}, {model}"
    rest = [
        f"{wording.confidence([row.time for row in layer.view.rows])}, {wording.passes(run)}"
        for layer, run in zip(stack, runs, strict=True)
    ]
    told = [", ".join(filter(None, [wording.machine(run), wording.date(run)])) for run in runs]
    warnings = [
        f"{layer.label}: {warning}" if layer.label else warning
        for layer, run in zip(stack, runs, strict=True)
        if (warning := wording.incomplete(run))
    ]
    if len(stack) > 1:
        rest = [
            f"{t}; {r}" if t.startswith(layer.label) else f"{layer.label}: {t}; {r}"
            for layer, t, r in zip(stack, told, rest, strict=True)
        ]
        told = [f"{len(stack)} runs, told apart below"]
    return Frame(title, subtitle, told[0], "; ".join(warnings) or None, (*notes, *rest))


def paged(subtitle: str, page: int, pages: int) -> str:
    """A subtitle that tells its page where there are several."""
    return subtitle if pages == 1 else f"{subtitle} (page {page} of {pages})"


def scaled(estimate: Estimate, size: float) -> Estimate:
    """An estimate in a unit of that size."""
    low, high = (None if end is None else end / size for end in (estimate.low, estimate.high))
    return Estimate(estimate.value / size, low, high, estimate.n, estimate.confidence)
