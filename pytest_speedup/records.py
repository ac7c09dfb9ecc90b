"""Saved JSON <-> frozen records: the one place that knows how a run is written down.

Everything behind the JSON (`estimate`, `scaling`, `analysis`, `table`, `plots`) works from these
records alone, so that a run can be read on a machine that has neither torch nor MPI.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_speedup.fields import Field, FieldError, visible

SCHEMA = 1

UNGROUPED = "ungrouped"
"""The group of arms that were saved without one."""

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


def read_run(path: str | Path) -> Run:
    """The run that pytest-benchmark saved in this file; RecordError where there is none."""
    source = visible(str(path))
    try:
        raw = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        why = getattr(error, "strerror", None) or error
        raise RecordError(f"{source}: cannot be read ({why}); name a saved JSON file") from None
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{source}: {_broken(error)}") from None
    return run_from_json(data, str(path))


def _broken(error: Exception) -> str:
    """Why a text is no JSON: empty, cut short, or something else altogether."""
    place = ""
    if isinstance(error, json.JSONDecodeError):
        text = error.doc.strip()
        if not text:
            return "is empty; save the run again"
        if not error.doc[error.pos :].strip() or (text[0] == "{" and text[-1] != "}"):
            lines = error.doc.count("\n") + 1
            return f"breaks off in line {lines}; copy the whole file again, or save the run again"
        place = f" at line {error.lineno}, column {error.colno} ({visible(error.msg)})"
    return f"is not JSON{place}; name a file saved with --benchmark-json or --benchmark-save"


def run_from_json(data: Mapping[str, object], source: str) -> Run:
    """The run in a saved JSON's object; `source` is the file's name, for the run and for errors.

    Benchmarks without `extra_info["speedup"]` are plain pytest-benchmark results and passed over.
    RecordError where anything is missing, of the wrong type, impossible (a time that is zero,
    negative or no number) or of a newer schema.
    """
    try:
        return _run(Field(data, "the file"), source)
    except FieldError as error:
        raise RecordError(
            f"{visible(source)}: {error}; the file was damaged or edited, measure again"
        ) from None
    except RecordError as error:
        raise RecordError(f"{visible(source)}: {error}") from None


def arm_from_benchmark(benchmark: Mapping[str, object]) -> Arm:
    """The arm in one entry of `benchmarks`; RecordError as of `run_from_json`, naming no file."""
    try:
        return _arm(Field(benchmark, "the benchmark"))
    except FieldError as error:
        raise RecordError(str(error)) from None


def _run(whole: Field, source: str) -> Run:
    if not isinstance(whole.value, Mapping) or "benchmarks" not in whole.value:
        raise RecordError(
            "is not a run that pytest-benchmark saved (an object with a list 'benchmarks'); "
            "name a file saved with --benchmark-json or --benchmark-save"
        )
    if "speedup" not in whole.value:
        raise RecordError(
            "was saved by pytest-benchmark without pytest-speedup, so there is no speedup to tell; "
            "mark the tests with @pytest.mark.speedup and run them again"
        )
    ours = whole["speedup"]
    _check_schema(ours)
    benchmarks = Field(whole["benchmarks"].value, "benchmarks")
    arms = tuple(
        _arm(each)
        for each in benchmarks.items()
        if "speedup" in each.optional_mapping("extra_info")
    )
    _check_unique(arms)
    return Run(
        source=source,
        datetime=whole["datetime"].text(),
        machine=whole["machine_info"].mapping(),
        commit=whole.optional_mapping("commit_info"),
        arms=arms,
        not_run=tuple(_not_run(entry) for entry in ours["not_run"].items()),
        passes=ours["passes"].count(1),
        passes_done=ours["passes_done"].count(0),
        seed=ours["seed"].count(0),
        incomplete=ours.optional_text("incomplete"),
        world_size=ours["world_size"].count(1),
    )


def _check_schema(ours: Field) -> None:
    schema = ours["schema"].count(1)
    if schema > SCHEMA:
        raise RecordError(
            f"was written by a newer pytest-speedup (schema {schema}, this one reads {SCHEMA}); "
            f"upgrade pytest-speedup"
        )


def _check_unique(arms: tuple[Arm, ...]) -> None:
    twice = [name for name, count in Counter(arm.fullname for arm in arms).items() if count > 1]
    if twice:
        raise RecordError(
            f"has two results of {visible(twice[0])}, which are never averaged; "
            f"keep one run per file"
        )


def _arm(benchmark: Field) -> Arm:
    name = benchmark["name"].text()
    ours = Field(benchmark["extra_info"]["speedup"].value, f"{benchmark.place} ({visible(name)})")
    _check_schema(ours)
    ranks, verified, threads = map(ours.optional, ("ranks", "verified", "threads"))
    repeat, started, iterations = map(ours.optional, ("repeat", "started", "iterations"))
    blocks = ours["blocks"].blocks()
    if not blocks:
        ours["blocks"].refuse("a list with at least one pass")
    return Arm(
        name=name,
        fullname=benchmark["fullname"].text(),
        group=benchmark.optional_text("group") or UNGROUPED,
        params=benchmark.optional_mapping("params"),
        strategy=ours["strategy"].text(),
        axis=ours.optional_text("axis"),
        workers=ours["workers"].count(1),
        base=ours.optional_text("base"),
        work=ours.optional_positive("work"),
        unit=ours["unit"].text(),
        scaling=ours["scaling"].choice("strong", "weak"),
        cpus=ours["cpus"].count(1),
        oversubscribed=ours["oversubscribed"].flag(),
        serial=ours["serial"].flag(),
        blocks=blocks,
        repeat=_repeat(repeat) if repeat else None,
        started=tuple(each.error() for each in started.items()) if started else None,
        iterations=iterations.count(1) if iterations else None,
        ranks=_ranks(ranks, blocks) if ranks else None,
        proof=_proof(verified) if verified else None,
        threads={key: threads[key].count(0) for key in threads.mapping()} if threads else None,
        device=ours.optional_text("device") or "cpu",
        first_call=ours.optional_positive("first_call"),
        facts=_facts(ours),
    )


def _repeat(field: Field) -> tuple[Block | None, ...] | None:
    return tuple(each.block() if each.value is not None else None for each in field.items()) or None


def _ranks(field: Field, blocks: tuple[Block, ...]) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Per-rank seconds, one list per pass and round of `blocks`, all of one length."""
    ranks = tuple(each.blocks() for each in field.items())
    if [len(each) for each in ranks] != [len(block) for block in blocks]:
        field.refuse("a list per pass and round of 'blocks'")
    if len({len(each) for rounds in ranks for each in rounds}) > 1:
        field.refuse("of the same ranks in every round")
    return ranks


def _proof(field: Field) -> Proof:
    error = field.optional("max_abs_error")
    return Proof(
        bitwise=field["bitwise"].flag(),
        max_abs_error=error.error() if error else None,
        tolerance=field.optional_text("tolerance"),
        check=field["check"].flag(),
        facts=_facts(field),
    )


def _facts(owner: Field) -> dict[str, float | int | str]:
    facts = owner.optional("facts")
    return {key: facts[key].fact() for key in facts.mapping()} if facts else {}


def _not_run(field: Field) -> NotRun:
    return NotRun(
        fullname=field["fullname"].text(),
        group=field.optional_text("group"),
        reason=field["reason"].text(),
        kind=field["kind"].choice("skipped", "failed", "interrupted"),
    )
