"""Who holds the training back? `python -m bench.loading.bottleneck RUN.json`, from a saved run.

First, whether loading keeps every core busy: the best loader's images per second over the plain
loop's are to be 90 % of the CPUs. That is a target where files are in the cache; where they are
not, the disk may be what all wait for. Then, for every loader that was trained with, an epoch of it
alone, of the steps alone and of both together:

    of the slower      what both together reach of the slower one's images per second, which they
                       cannot pass; that one holds the training back
    of what CPUs give  the same against the least time in which these CPUs could do the work of
                       both, where each takes so many CPUs as it does alone

Ratios are taken within a pass, intervals are over passes; the point decides, and a question mark
says that the interval leaves it open. Ends with exit code 1 where loading misses its target, 4
where the file is no run of these benchmarks. Needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.saved_run import MISSED, USAGE, run_of, sure
from pytest_speedup.bases import speedup
from pytest_speedup.columns import Column, lay_out
from pytest_speedup.estimate import Estimate, block_medians, monotone, ratio, time
from pytest_speedup.records import Arm, Run
from pytest_speedup.wording import bracketed, incomplete, usable_cpus

SHARE = 0.9
"""Of cores x the plain loop's rate, that the best loader is to reach."""
FOLDER, TRAINED, CACHED = "bench/loading/", "train_", "train_cached"


@dataclass(frozen=True)
class Best:
    """The fastest loader that does not oversubscribe the CPUs, over the plain loop."""

    loader: Arm
    gain: Estimate
    wanted: float

    @property
    def state(self) -> str:
        """Of the file cache: "warm" or "cold"."""
        return str(self.loader.params["file_cache"])

    @property
    def reached(self) -> bool:
        """By the point; `verdict` says how sure that is."""
        return self.gain.value >= self.wanted

    @property
    def verdict(self) -> str:
        """Reached or missed; with a question mark where the interval leaves it open."""
        return sure("reached" if self.reached else "MISSED", self.gain, self.wanted)


@dataclass(frozen=True)
class Together:
    """One loader and the steps, alone and together."""

    loader: Arm
    steps: Arm
    both: Arm
    cpus: int
    """Of the machine."""

    @property
    def slower(self) -> str:
        """Who takes longer alone, and so holds the training back."""
        steps = speedup(self.loader, self.steps)  # above 1: the loader is the faster
        return sure("the steps" if steps.value >= 1 else "loading", steps, 1)

    @property
    def of_the_slower(self) -> Estimate:
        """Images per second together, over those of the slower alone."""
        return self._against(max)

    @property
    def of_the_cpus(self) -> Estimate:
        """The same, over what these CPUs could give to both."""

        def least(loading: float, stepping: float) -> float:
            work = loading * self.loader.cpus + stepping * self.steps.cpus
            return max(loading, stepping, work / self.cpus)

        return self._against(least)

    def _against(self, least: Callable[[float, float], float]) -> Estimate:
        alone = zip(
            block_medians(self.loader.blocks), block_medians(self.steps.blocks), strict=False
        )
        return ratio([[least(*each)] for each in alone], self.both.blocks)


def best_loaders(run: Run) -> list[Best]:
    """Files in the cache, and out of it, each where the run has a plain loop to compare with."""
    arms, cpus = _arms(run), usable_cpus(run)
    found = []
    for state in ("warm", "cold"):
        loaders = [a for a in arms if a.params.get("file_cache") == state and not a.oversubscribed]
        loops = [arm for arm in loaders if arm.strategy == "loop"]
        others = [arm for arm in loaders if arm.strategy != "loop"]
        if cpus and loops and others:
            gains = [(speedup(arm, loops[0]), arm) for arm in others]
            gain, arm = max(gains, key=lambda each: each[0].value)
            found.append(Best(arm, gain, SHARE * cpus))
    return found


def all_together(run: Run) -> list[Together]:
    """Every loader that was trained with, and measured alone, in the run's order."""
    arms = _arms(run)
    steps = [arm for arm in arms if arm.strategy == CACHED]
    alone = {
        _key(arm.strategy, arm.params): arm
        for arm in arms
        if arm.params.get("file_cache") == "warm"
    }
    return [
        Together(alone[key], steps[0], arm, usable_cpus(run) or steps[0].cpus)
        for arm in arms
        if steps
        and (key := _key(arm.strategy.removeprefix(TRAINED), arm.params)) in alone
        and arm.strategy.startswith(TRAINED)
    ]


def _arms(run: Run) -> list[Arm]:
    return [arm for arm in run.arms if arm.fullname.startswith(FOLDER) and arm.work]


def _key(strategy: str, params: Mapping[str, object]) -> tuple[object, ...]:
    others = sorted((name, str(value)) for name, value in params.items() if name != "file_cache")
    return strategy, *others


def _name(arm: Arm) -> str:
    params = [f"{name}={value}" for name, value in arm.params.items() if name != "file_cache"]
    return " ".join([arm.strategy.removeprefix(TRAINED), *params])


def _rate(arm: Arm) -> str:
    seconds, work = time(arm.blocks), arm.work or 1.0
    return bracketed(monotone(lambda each: work / each, seconds), decimals=0)


def table(rows: Sequence[Together]) -> list[str]:
    """A line for each loader."""
    columns = [
        Column("loader", tuple(_name(row.loader) for row in rows), right=False),
        Column("alone, images/s", tuple(_rate(row.loader) for row in rows), right=False),
        Column("steps alone", tuple(_rate(row.steps) for row in rows), right=False),
        Column("together", tuple(_rate(row.both) for row in rows), right=False),
        Column("held back by", tuple(row.slower for row in rows), right=False),
        Column("of the slower", tuple(bracketed(r.of_the_slower) for r in rows), right=False),
        Column("of what CPUs give", tuple(bracketed(r.of_the_cpus) for r in rows), right=False),
    ]
    return lay_out(columns, [column.natural for column in columns])


def sentence(best: Best) -> str:
    """`warm file cache: thread_pool threads=2 loads 1.93 [1.90, 1.95] times as fast as ...`."""
    aim = f", wanted {best.wanted:.2f}: {best.verdict}" if best.state == "warm" else ""
    return (
        f"{best.state} file cache: {_name(best.loader)} loads {bracketed(best.gain)} times as fast "
        f"as the plain loop{aim}"
    )


def main(arguments: Sequence[str]) -> int:
    """Print what a saved run says; the exit code is 0, 1 or 4."""
    run = run_of("bench.loading.bottleneck", arguments)
    if run is None:
        return USAGE
    best, rows = best_loaders(run), all_together(run)
    if not best and not rows:
        sys.stderr.write(
            f"bottleneck: {arguments[0]} has no loader beside the plain loop, and no training with "
            f"its loader and its steps alone; save one with pytest bench/loading --benchmark-only "
            f"--benchmark-json=run.json\n"
        )
        return USAGE
    warning = incomplete(run)
    parts = [[warning] if warning else [], [sentence(each) for each in best]]
    parts.append(table(rows) if rows else [])
    sys.stdout.write("\n\n".join("\n".join(part) for part in parts if part) + "\n")
    return MISSED if any(not each.reached for each in best if each.state == "warm") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
