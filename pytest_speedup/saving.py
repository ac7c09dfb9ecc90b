"""Where a run is saved: found wanting before the run, and never at an earlier run's cost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from pytest_benchmark.session import BenchmarkSession
from pytest_benchmark.storage.file import FileStorage


def check_destinations(benchmarks: BenchmarkSession) -> None:
    """Raise pytest.UsageError where the run's JSON could not be written at its end."""
    if benchmarks.json:
        target = Path(benchmarks.json)
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
