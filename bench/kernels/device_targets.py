"""What a GPU run gave, and whether it is what was aimed at, from a saved run.

    python -m bench.kernels.device_targets RUN.json

    of the copy     the share of a copy's bandwidth, measured in the same run, that an operator
                    bound by memory moves its bytes at, with arguments that no cache holds
    / torch         geometric mean over the shapes, each mode against the faster of torch's arms in
                    the same mode (NCHW and channels-last memory), and the least of any shape
    device ratio    the GPU's parallel version against one thread of it, and against the fastest arm
                    on the CPU: other hardware, so no parallel speedup

Ratios are of work per second, taken within a pass; a question mark says that the interval over the
passes leaves the verdict open. Ends with exit code 1 where a target is missed, 4 where the file is
no run of these benchmarks. Needs no torch, as all that reads a saved run.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.kernels.cases import CASES, ON_CPUS, gpu_network_title
from bench.kernels.ratios import mean_speedup
from bench.saved_run import MISSED, USAGE, run_of, sure
from pytest_speedup.bases import speedup
from pytest_speedup.columns import Column, lay_out
from pytest_speedup.estimate import Estimate, block_medians, ratio
from pytest_speedup.records import Arm, Run
from pytest_speedup.wording import bracketed, incomplete

BANDWIDTH = (
    *("relu", "max_pool2d", "avg_pool2d", "softmax", "log_softmax", "cross_entropy"),
    *("batch_norm_inference", "batch_norm_training"),
)
"""The families that are bound by memory."""
OF_THE_COPY, AS_TORCH = 0.85, 1.0
BY_HAND = {"cuda": ("torch",), "metal": ("torch",), "triton": ("torch",)} | {
    f"triton_{mode}": (f"torch_{mode}",) for mode in ("tf32", "bf16")
}
"""Implementation -> torch's arms in its mode; those in channels-last memory are added."""
PRODUCTS = {"linear": (0.8, None), "conv2d": (0.7, 0.3)}
"""Family -> the mean that is wanted, and the least of a shape."""
FIRST_LAYER = "conv2d_lenet_conv1_b32"


@dataclass(frozen=True)
class Row:
    """One figure, and what it was meant to be."""

    name: str
    value: Estimate
    wanted: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """With a question mark where the interval leaves it open; "" where nothing is wanted."""
        if self.wanted is None:
            return ""
        word = "reached" if self.value.value >= self.wanted else "MISSED"
        return sure(word, self.value, self.wanted)


Arms = Mapping[tuple[str, str, str], Arm]
"""By case, strategy and cache."""


def rows(run: Run) -> list[Row]:
    """Everything that the run has the arms of."""
    arms = {
        (str(arm.params["case"]), arm.strategy, str(arm.params["cache"])): arm
        for arm in run.arms
        if arm.params.get("case") in CASES and "cache" in arm.params
    }
    return [*_bandwidths(arms), *_products(arms), *_device_ratios(run, arms)]


def _large(arms: Arms, family: str, implementation: str) -> dict[str, Arm]:
    """The arms with cold caches of a family, on the shapes that fill a GPU."""
    return {
        case: arm
        for (case, strategy, cache), arm in arms.items()
        if strategy == implementation and cache == "cold"
        and CASES[case].family == family and case not in ON_CPUS
    }  # fmt: skip


def _bandwidths(arms: Arms) -> Iterator[Row]:
    for family in BANDWIDTH:
        for implementation in BY_HAND:
            own = _large(arms, family, implementation)
            if not own:
                continue
            shares = [_share(arm) for arm in own.values()]
            known = [share for share in shares if share is not None]
            if known:
                least = min(known, key=lambda share: share.value)
                yield Row(f"{family} {implementation}, of the copy", least, OF_THE_COPY)
            yield from _against_torch(arms, own, family, implementation, AS_TORCH, None)


def _products(arms: Arms) -> Iterator[Row]:
    for family, (mean, least) in PRODUCTS.items():
        for implementation in BY_HAND:
            own = _large(arms, family, implementation)
            yield from _against_torch(arms, own, family, implementation, mean, least)


def _against_torch(
    arms: Arms, own: Mapping[str, Arm], family: str, implementation: str, mean: float,
    least: float | None,
) -> Iterator[Row]:  # fmt: skip
    torchs = BY_HAND[implementation]
    pairs = {}
    for case, arm in own.items():
        names = [name + layout for name in torchs for layout in ("", "_channels_last")]
        others = [arms[case, name, "cold"] for name in names if (case, name, "cold") in arms]
        if others:
            pairs[case] = (arm, min(others, key=_seconds_an_item))
    gain = mean_speedup(list(pairs.values()))
    if gain is None:
        return
    worst, case = min(
        ((speedup(*pair), case) for case, pair in pairs.items()), key=lambda each: each[0].value
    )
    note = f"{len(pairs)} shapes, least {bracketed(worst)} {CASES[case].title}"
    yield Row(f"{family} {implementation} / torch", gain, mean, note)
    if least is not None:
        yield Row(f"{family} {implementation} / torch, least shape", worst, least)


def _device_ratios(run: Run, arms: Arms) -> Iterator[Row]:
    title = gpu_network_title("lenet", 32)
    for what, sequential, parallel in (
        (FIRST_LAYER, *(arms.get((FIRST_LAYER, s, "warm")) for s in ("cuda_sequential", "cuda"))),
        (title, *(_of(run, title, s) for s in ("cuda_sequential", "cuda"))),
    ):
        if parallel is None:
            continue
        if sequential is not None:
            yield Row(f"{what}: cuda / one GPU thread", speedup(parallel, sequential))
        on_cpu = [arm for arm in run.arms if arm.device == "cpu" and _asks(arm, what)]
        if on_cpu:
            best = min(on_cpu, key=_seconds_an_item)
            name = f"{what}: cuda / CPU's best, device ratio"
            yield Row(name, speedup(parallel, best), note=f"{best.strategy}, {best.cpus} CPUs")


def _asks(arm: Arm, what: str) -> bool:
    return not arm.oversubscribed and (arm.params.get("case") == what or arm.group == what)


def _of(run: Run, group: str, strategy: str) -> Arm | None:
    found = (arm for arm in run.arms if arm.group == group and arm.strategy == strategy)
    return next(found, None)


def _seconds_an_item(arm: Arm) -> float:
    return math.fsum(block_medians(arm.blocks)) / len(arm.blocks) / (arm.work or 1.0)


def _share(arm: Arm) -> Estimate | None:
    """Of the device's own peak."""
    if arm.peak is None or arm.work is None:
        return None
    return ratio([[arm.work / arm.peak]] * len(arm.blocks), arm.blocks)


def main(arguments: Sequence[str]) -> int:
    """Print the figures of a saved run; the exit code is 0, 1 or 4."""
    run = run_of("bench.kernels.device_targets", arguments)
    if run is None:
        return USAGE
    found = rows(run)
    if not found:
        sys.stderr.write(
            f"device_targets: {arguments[0]} has no arm of a GPU; save one with "
            f"python -m bench.kernels.gpu\n"
        )
        return USAGE
    if warning := incomplete(run):
        sys.stdout.write(f"{warning}\n\n")
    columns = [
        Column("", tuple(row.name for row in found), right=False),
        Column("", tuple(bracketed(row.value) for row in found), right=False),
        Column("wanted", tuple("" if r.wanted is None else f"{r.wanted:g}" for r in found)),
        Column("", tuple(row.verdict for row in found), right=False),
        Column("", tuple(row.note for row in found), right=False),
    ]
    lines = lay_out(columns, [column.natural for column in columns])
    sys.stdout.write("\n".join(lines) + "\n")
    return MISSED if any(row.verdict.startswith("MISSED") for row in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
