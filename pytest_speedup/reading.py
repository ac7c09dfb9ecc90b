"""A saved JSON -> records; what cannot be read is refused in one line that names the file.

Every value is checked where it is read, so that nothing behind the records has to doubt them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pytest_speedup.design import FACTS, checked
from pytest_speedup.fields import Field, FieldError, visible
from pytest_speedup.records import SCHEMA, Arm, Block, NotRun, Power, Proof, RecordError, Run

UNGROUPED = "ungrouped"
"""The group of arms that were saved without one."""


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
    power = ours.optional("power")
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
        peak=ours.optional_positive("peak"),
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
        design=_design(ours),
        power=_power(power, blocks) if power else None,
    )


def _design(ours: Field) -> dict[str, float | int]:
    """The facts that this version knows."""
    field = ours.optional("design")
    if field is None:
        return {}
    known = {name: each for name, each in field.mapping().items() if name in FACTS}
    try:
        return checked(known)
    except ValueError as error:
        raise FieldError(f"{field.place}: {error}") from None


def _power(field: Field, blocks: tuple[Block, ...]) -> Power:
    """Watts of each pass in `blocks`, or the reason why there are none."""
    watts = field.optional("watts")
    told = (
        [each.positive() if each.value is not None else None for each in watts.items()]
        if watts
        else []
    )
    if watts and len(told) != len(blocks):
        watts.refuse("one a pass of 'blocks'")
    return Power(field.optional_text("source"), tuple(told), field.optional_text("missing"))


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
