"""Plans as the compiled kernel reads them: one or several, in one table of tasks.

Several are the phases of a strided convolution's input gradient. Tasks of theirs that lie in the
same part of the image follow each other: what they read and write is still in a cache, and threads
that take equal runs of tasks get equal shares of every phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels.arrays import Array
from kernels.conv2d.plans import Plan


@dataclass(frozen=True)
class Work:
    """What the kernel does; read-only."""

    geometries: Array
    """[plans, fields of `Geometry`]"""
    tasks: Array
    """[tasks, 2]: block, which of its shares of panels."""
    blocks: Array
    """[blocks, 8]: as `Plan.blocks`, then group, plan, where its copy begins in the room that tasks
    share; negative where each task makes its own."""
    panels: Array
    """[panels, 2]: plan and number of those that are packed before the tasks."""
    copies: Array
    """Blocks that are copied before the tasks."""
    rows: Array
    """As `packing.pack` takes them, those of all plans."""
    origins: Array
    places: Array
    runs: Array
    coverings: Array
    lengths: Array
    packed: int
    """How much room the packed panels need."""
    copied: int
    """How much room the shared copies need."""
    columns: int
    """Columns of all panels of a plan, in each the same."""
    filters: tuple[int, int]
    """Groups, and a group's filters: in each plan the same."""


def join(parts: Sequence[tuple[Plan, Array, int]]) -> Work:
    """One `Work` of (plan, rows of its weights, first element of its output)."""
    geometries, blocks, tasks, panels, copies, coverings = [], [], [], [], [], []
    packed = copied = pixels = runs = rows = 0
    for number, (plan, own_rows, out) in enumerate(parts):
        g = plan.geometry
        # One block: each panel is read by one task, which packs it where its cache is.
        ahead = len(plan.blocks) > 1
        geometries.append(
            g._replace(
                out=out,
                packed=packed if ahead else -1,
                first_run=runs,
                last_run=runs + len(plan.runs),
                first_row=rows,
                last_row=rows + len(own_rows),
            )
        )
        if ahead:
            panels += [(number, panel) for panel in range(g.groups * g.panels)]
            packed += g.groups * g.panels * g.panel * g.taps
        first, count = len(blocks), len(plan.blocks) * g.groups
        for *block, which in plan.blocks.tolist():
            for group in range(g.groups):
                shared = g.copies and g.split > 1
                if shared:
                    copies.append(len(blocks))
                place = len(blocks) - first
                # A share of all blocks before the next: its weights stay in a core's cache.
                tasks += [
                    (share / g.split, place / count, len(blocks), share) for share in range(g.split)
                ]
                blocks.append((*block, 2 * number + which, group, number, copied if shared else -1))
                copied += g.scratch if shared else 0
        coverings.append(plan.coverings + np.array([pixels, 0]))
        pixels += len(plan.origins)
        runs += len(plan.runs)
        rows += len(own_rows)
    most = max(table.shape[1] for table in coverings)
    plans = [plan for plan, _, _ in parts]
    g = plans[0].geometry
    return Work(
        geometries=np.array(geometries, np.int64),
        tasks=np.array([task for _, _, *task in sorted(tasks)], np.int64),
        blocks=np.array(blocks, np.int64),
        panels=np.array(panels, np.int64).reshape(-1, 2),
        copies=np.array(copies, np.int64),
        rows=np.concatenate([own_rows for _, own_rows, _ in parts]),
        origins=np.concatenate([plan.origins for plan in plans]),
        places=np.concatenate([plan.places for plan in plans]),
        runs=np.concatenate([plan.runs for plan in plans]),
        coverings=np.concatenate(
            [np.pad(table, ((0, 0), (0, most - table.shape[1]), (0, 0))) for table in coverings]
        ),
        lengths=np.concatenate([plan.lengths for plan in plans]),
        packed=packed,
        copied=copied,
        columns=g.groups * g.panels * g.panel,
        filters=(g.groups, g.filters),
    )
