"""What training in parallel gave, and whether it is what was aimed at, from a saved run.

    python -m bench.training.targets RUN.json

Speeds are images per second; each ratio is taken within a pass, its interval over the passes.

    mpi / independent    of what ranks reach without any communication, 95 % is wanted
    hybrid / PyTorch     each at its best point on CPUs that is not oversubscribed; 1.2 is wanted
    ddp / torch_serial   one process each: what DDP costs where there is nobody to talk to

A run under `mpirun` has the first two. Ends with exit code 1 where a target is missed, 4 where the
file is no run of these benchmarks. Needs no torch, as all that reads a saved run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.saved_run import MISSED, USAGE, run_of, sure
from pytest_speedup.bases import short_name, speedup
from pytest_speedup.columns import Column, lay_out
from pytest_speedup.estimate import Estimate, block_medians
from pytest_speedup.records import Arm, Run
from pytest_speedup.wording import bracketed, incomplete

NETWORK = "training cifar_cnn"
"""How the groups' names begin."""
HAND = ("hybrid", "numba_threads")
PYTORCH = ("torch_", "ddp", "model_parallel", "gpipe", "one_f_one_b")
"""How the strategies' names begin; `amp` is not among them, whose precision is another."""
MPI_CEILING, HYBRID_GAIN = 0.95, 1.2


@dataclass(frozen=True)
class Row:
    """One ratio of speeds."""

    name: str
    gain: Estimate
    wanted: float | None = None

    @property
    def verdict(self) -> str:
        """With a question mark where the interval leaves it open; "" where nothing is wanted."""
        if self.wanted is None:
            return ""
        word = "reached" if self.gain.value >= self.wanted else "MISSED"
        return sure(word, self.gain, self.wanted)


def rows(run: Run) -> Iterator[Row]:
    """Everything that the run has both arms of."""
    for group in dict.fromkeys(arm.group for arm in run.arms if arm.group.startswith(NETWORK)):
        arms = [arm for arm in run.arms if arm.group == group and not arm.oversubscribed]
        by_point = {(arm.strategy, arm.workers): arm for arm in arms if arm.scaling == "strong"}
        for (strategy, workers), arm in by_point.items():
            ceiling = by_point.get(("independent", workers))
            if (
                strategy in ("mpi", "mpi_overlap", "mpi_shared")
                and ceiling is not None
                and workers > 1
            ):
                wanted = MPI_CEILING if strategy == "mpi" else None
                yield Row(f"{_named(arm)} / independent", speedup(arm, ceiling), wanted)
        hand, torchs = _fastest(arms, HAND), _fastest(arms, PYTORCH)
        if hand is not None and torchs is not None:
            name = f"{_named(hand)} / {_named(torchs)}"
            yield Row(name, speedup(hand, torchs), HYBRID_GAIN)
        ddp, alone = by_point.get(("ddp", 1)), by_point.get(("torch_serial", 1))
        if ddp is not None and alone is not None:
            yield Row(f"{_named(ddp)} / {_named(alone)}", speedup(ddp, alone))


def _fastest(arms: Sequence[Arm], beginnings: tuple[str, ...]) -> Arm | None:
    chosen = [arm for arm in arms if arm.strategy.startswith(beginnings) and arm.proof is not None]
    chosen = [arm for arm in chosen if arm.scaling == "strong" and arm.work]
    chosen = [arm for arm in chosen if arm.device == "cpu"]
    return min(
        chosen,
        key=lambda arm: sorted(block_medians(arm.blocks))[len(arm.blocks) // 2],
        default=None,
    )


def _named(arm: Arm) -> str:
    return short_name(arm.fullname).removeprefix("test_")


def communication(run: Run) -> Iterator[str]:
    """What each arm of several ranks tells of MPI."""
    for arm in run.arms:
        facts = arm.facts
        if arm.group.startswith(NETWORK) and "bus_gb_s" in facts and "mpi_share" in facts:
            yield (
                f"{_named(arm)}: {100 * float(facts['mpi_share']):.1f} % of the call in MPI; an "
                f"Allreduce alone {facts['allreduce_ms']} ms, bus bandwidth {facts['bus_gb_s']} "
                f"GB/s, a plain copy {facts['copy_gb_s']} GB/s"
            )


def table(found: Sequence[Row]) -> list[str]:
    """A line for each ratio."""
    columns = [
        Column("images/s", tuple(row.name for row in found), right=False),
        Column("times as fast", tuple(bracketed(row.gain, decimals=3) for row in found)),
        Column("wanted", tuple(f"{row.wanted}" if row.wanted else "–" for row in found)),
        Column("", tuple(row.verdict for row in found), right=False),
    ]
    return lay_out(columns, [column.natural for column in columns])


def main(arguments: Sequence[str]) -> int:
    """Print the targets of a saved run; the exit code is 0, 1 or 4."""
    run = run_of("bench.training.targets", arguments)
    if run is None:
        return USAGE
    found = list(rows(run))
    if not found:
        sys.stderr.write(
            f"targets: {arguments[0]} has no two arms of bench/training to compare; save some with "
            f"mpirun -n 2 pytest bench/training --with-mpi --benchmark-only "
            f"--benchmark-json=run.json\n"
        )
        return USAGE
    warning = [f"{incomplete(run)}\n"] if incomplete(run) else []
    sys.stdout.write("\n".join([*warning, *table(found), "", *communication(run)]) + "\n")
    return MISSED if any(row.verdict.startswith("MISSED") for row in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
