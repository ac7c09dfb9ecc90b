"""Where a run is saved: found wanting before the run, and never at an earlier run's cost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark.session import BenchmarkSession
from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.utils import safe_dumps

from pytest_speedup.fields import visible

if TYPE_CHECKING:
    from pytest_speedup.measuring import Measuring


def check_destinations(benchmarks: BenchmarkSession) -> None:
    """Raise pytest.UsageError where the run's JSON could not be written at its end."""
    if benchmarks.json:
        target = Path(benchmarks.json)
        _check_name(target.parent, target.name, f"--benchmark-json {target}")
        if target.is_dir():
            raise pytest.UsageError(
                f"--benchmark-json {target} is a folder; "
                f"name a file in it, such as {target}/run.json"
            )
        _check_folder(target.parent, f"--benchmark-json {target}", make=False)
        if target.exists():
            _check_file(target)
    if benchmarks.save or benchmarks.autosave:
        storage = benchmarks.storage
        if isinstance(storage, FileStorage):
            _check_folder(Path(storage.path), f"--benchmark-storage {storage.path}", make=True)
            name = benchmarks.save or ""  # pytest-benchmark puts a number before it
            _check_name(Path(storage.path), f"0001_{name}.json", f"--benchmark-save {name}")


def _check_folder(folder: Path, asked: str, *, make: bool) -> None:
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise pytest.UsageError(
            f"{asked}: cannot write to the folder {folder} ({error.strerror}); "
            f"make it, or name another"
        ) from None


def _check_name(folder: Path, name: str, asked: str) -> None:
    try:
        (folder / name).exists()
    except OSError as error:
        raise pytest.UsageError(
            f"{visible(asked)}: no file can have this name ({error.strerror}); give another"
        ) from None


def _check_file(target: Path) -> None:
    try:
        with target.open("ab"):
            pass
    except OSError as error:
        raise pytest.UsageError(
            f"--benchmark-json {target}: cannot write this file ({error.strerror}); name another"
        ) from None


def spare_earlier_result(benchmarks: BenchmarkSession) -> None:
    """Send an incomplete run's JSON beside an earlier file of that name instead of over it."""
    if benchmarks.json and Path(benchmarks.json).exists():
        target = Path(benchmarks.json)
        benchmarks.json = target.with_name(f"{target.stem}.incomplete{target.suffix}")


def save_whole_or_not(session: pytest.Session, state: Measuring) -> None:
    """Keep a disk that fills up from costing an earlier result, or this run its table.

    pytest-benchmark empties a file before it writes it, and ends the session where it cannot. Here
    the JSON is written beside its place and moved there, and a failure is one line and exit code 1.
    """
    benchmarks: Any = state.benchmarks  # pytest-benchmark is typed in places only
    if not benchmarks.benchmarks and (benchmarks.json or benchmarks.save or benchmarks.autosave):
        benchmarks.json = benchmarks.save = benchmarks.autosave = None
        state.problems.append("Nothing is saved: no arm has a time.")
    write: Any = safe_dumps
    store = benchmarks.storage.save

    def save_json(run: Mapping[str, object]) -> None:
        target = Path(benchmarks.json)
        plain = target.is_file() or not target.exists()  # /dev/stdout is written where it stands
        half = target.resolve().with_name(f".{os.getpid()}.json") if plain else target
        benchmarks.json = None  # until it is there: an earlier file of that name is not this run
        with told(f"--benchmark-json {target}"):
            try:
                half.write_bytes(write(run, ensure_ascii=True, indent=4).encode())
                if plain:
                    half.replace(target.resolve())
            finally:
                if plain:
                    half.unlink(missing_ok=True)
            benchmarks.json = target
            benchmarks.logger.info(f"Wrote benchmark data in: {target}", purple=True)

    def save(*run: object) -> None:
        with told(f"--benchmark-storage {benchmarks.storage}"):
            store(*run)

    @contextmanager
    def told(asked: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror
            state.problems.append(
                f"{asked}: this run is not saved ({why}); make room, measure again"
            )
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    benchmarks.save_json, benchmarks.storage.save = save_json, save


def stored_runs(benchmarks: BenchmarkSession) -> set[Path]:
    """The files that pytest-benchmark's storage holds at this moment."""
    storage = benchmarks.storage
    if not isinstance(storage, FileStorage):
        return set()
    return set(Path(storage.path).glob("*/*.json"))


def saved_files(benchmarks: BenchmarkSession, before: Iterable[Path]) -> list[Path]:
    """The files that this run was saved to."""
    files = sorted(stored_runs(benchmarks) - set(before))
    if benchmarks.json and Path(benchmarks.json).is_file():
        files.append(Path(benchmarks.json))
    return files
