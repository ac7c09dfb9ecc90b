"""What a saved run holds, as frozen records; `reading` makes them, `ledger` writes their JSON.

Everything behind the JSON (`estimate`, `scaling`, `analysis`, `table`, `plots`) works from these
records alone, so that a run can be read on a machine that has neither torch nor MPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SCHEMA = 1

Block = tuple[float, ...]
"""Seconds per call of every round that one arm was given in one pass."""


@dataclass(frozen=True)
class Proof:
    """How an arm's result compared with the reference, before and after its timed calls."""

    bitwise: bool
    max_abs_error: float | None
    """None where the proof was a check of one's own rather than a value."""
    tolerance: str | None
    """What was allowed, in words; None where every bit had to agree."""
    check: bool
    """Whether a check of one's own decided, rather than a comparison value by value."""
    facts: Mapping[str, float | int | str]
    """What a check of one's own reported, for example {"top1": 0.998}."""

    def together(self, later: Proof) -> Proof:
        """What two proofs show together: the larger error, and every bit only if both times."""
        errors = [p.max_abs_error for p in (self, later) if p.max_abs_error is not None]
        return replace(
            later,
            bitwise=self.bitwise and later.bitwise,
            max_abs_error=max(errors, default=None),
        )


@dataclass(frozen=True)
class Power:
    """What an arm's device took while the arm's blocks lasted."""

    source: str | None
    """The counter, and what hangs on it; None where there is none."""
    watts: tuple[float | None, ...]
    """Of each pass; empty where none could be read."""
    missing: str | None
    """Why not, where that is known."""


@dataclass(frozen=True)
class Arm:
    """One configuration that was measured: one parametrized benchmark test."""

    name: str
    """The test's name with its id, `test_thread_pool[threads=4]`."""
    fullname: str
    """The test's node id; unique within a run."""
    group: str
    params: Mapping[str, object]
    strategy: str
    """The test function's name without `test_`."""
    axis: str | None
    workers: int
    """The axis' value where the axis counts workers, else 1."""
    base: str | None
    """`fullname` of the arm that the relative speedup is told against; that arm may be absent."""
    work: float | None
    """Items that one call processes."""
    unit: str
    peak: float | None
    """The most items per second that the machine gives on as many CPUs, as the arm says."""
    scaling: str
    """"strong" or "weak"."""
    cpus: int
    """Workers times the threads of each."""
    oversubscribed: bool
    serial: bool
    """Whether it may be the group's serial base: one CPU, full precision."""
    blocks: tuple[Block, ...]
    """One block per pass, in order; block i of every arm of a run is from pass i."""
    repeat: tuple[Block | None, ...] | None
    """The second, identical turn of the group's base arm in each pass: the noise floor.

    None for a pass before the arm took this over from one that was lost.
    """
    started: tuple[float, ...] | None
    """Seconds from the run's first turn to this arm's turn of each pass."""
    iterations: int | None
    """Calls in each timed round, whose seconds are divided by it."""
    ranks: tuple[tuple[tuple[float, ...], ...], ...] | None
    """Seconds [pass][round][rank] of an MPI arm."""
    proof: Proof | None
    """None for a plain `benchmark` test, whose own asserts are its proof."""
    threads: Mapping[str, int] | None
    """Threads that each pool really had inside the worker: {"torch": 1, "openmp": 1, ...}."""
    device: str
    first_call: float | None
    """Seconds of the cold first call, outside the timing."""
    facts: Mapping[str, float | int | str]
    """What the strategy tells of itself, for example {"compile_seconds": 12.1}."""
    design: Mapping[str, float | int] = field(default_factory=dict)
    """What the arm says that its design costs; see `design.FACTS`."""
    power: Power | None = None
    """None for a run from before power was kept."""

    @property
    def series(self) -> tuple[object, ...]:
        """What the arms of one line in a plot share: everything but the axis' value."""
        others = tuple(sorted((k, str(v)) for k, v in self.params.items() if k != self.axis))
        return (self.group, self.strategy, self.axis, self.scaling, others)


@dataclass(frozen=True)
class NotRun:
    """A test that was collected and has no time."""

    fullname: str
    group: str | None
    reason: str
    """One line: a skip's reason, or the last line of a failure."""
    kind: str
    """"skipped", "failed" or "interrupted"."""


@dataclass(frozen=True)
class Run:
    """One saved session."""

    source: str
    """The file's name, or "this run"."""
    datetime: str
    """ISO 8601."""
    machine: Mapping[str, object]
    """pytest-benchmark's `machine_info`, with ours under the key "speedup"."""
    commit: Mapping[str, object]
    arms: tuple[Arm, ...]
    not_run: tuple[NotRun, ...]
    passes: int
    """Passes that were asked for."""
    passes_done: int
    seed: int
    incomplete: str | None
    """Why the run ended early, in a few words; None for a whole run."""
    world_size: int


class RecordError(ValueError):
    """A file is not a run that can be read; the message names the file and says what is wrong."""
