"""A training run on disk: weights, the optimizer's buffers and all metrics, in one `.npz`.

Nothing in it is pickled, so that reading one runs no code:

    np.load("checkpoints/numba.npz")["weights/conv1.weight"]

A file is written beside its place, forced onto the disk and then renamed: whatever happens, the one
that was there before is whole or replaced as a whole.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.training.run import Run, run_from
from bench.training.trainer import Arrays, State
from models import InputError
from models.errors import first_line, unreadable

FORMAT = 1
RECORD = "record"
"""The member with everything that is no array, as JSON."""


def path_of(folder: Path, strategy: str) -> Path:
    """Where a strategy's checkpoint lies."""
    return folder / f"{strategy}.npz"


def save(path: Path, run: Run, state: State) -> None:
    """Replace the checkpoint; raises InputError where that cannot be, the former one unharmed."""
    record = {"format": FORMAT, "steps": state.steps, "run": asdict(run)}
    arrays = {
        **{f"weights/{name}": array for name, array in state.weights.items()},
        **{f"buffers/{name}": array for name, array in state.buffers.items()},
    }
    # In memory: a zip file that is cut off on the disk tries to write its end when it is collected.
    packed = io.BytesIO()
    np.savez(packed, **{RECORD: np.array(json.dumps(record))}, **arrays)
    try:
        replace(path, packed.getbuffer())
    except OSError as error:
        kept = "the former one is kept whole" if path.exists() else "there is none yet"
        raise InputError(
            f"--checkpoint-dir {path.parent}: the checkpoint {path.name} of epoch "
            f"{len(run.epochs)} cannot be written ({error.strerror}); {kept}: make room, or name "
            f"another folder, and go on with --resume"
        ) from error


def replace(path: Path, content: bytes | memoryview) -> None:
    """Put a file in its place in one step; raises OSError, nothing of it being left then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with half.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def read(path: Path) -> tuple[Run, State]:
    """All of a checkpoint; raises InputError, naming the file, for one that is not whole."""
    run, steps, arrays = _read(path)
    return run, State(_below("weights/", arrays), _below("buffers/", arrays), steps)


def read_run(path: Path) -> Run:
    """A checkpoint's metrics alone; raises InputError as `read` does."""
    return _read(path, arrays=False)[0]


def _read(path: Path, *, arrays: bool = True) -> tuple[Run, int, dict[str, Any]]:
    reason = unreadable(path)
    if reason is not None:
        raise InputError(f"{path}: {reason}; a checkpoint is wanted")
    try:
        # `zipfile` compares the checksum of each member that is read to its end.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            record: Mapping[str, Any] = json.loads(str(members[RECORD]))
            if record["format"] != FORMAT:
                raise ValueError(f"its format is {record['format']}, not {FORMAT}")
            wanted = [name for name in members.files if arrays and name != RECORD]
            return (
                run_from(record["run"]),
                int(record["steps"]),
                {name: members[name] for name in wanted},
            )
    except Exception as error:  # whatever becomes of a zip file whose bytes have changed
        raise InputError(
            f"{path}: no whole checkpoint ({first_line(error)}); delete it, or train anew without "
            f"--resume"
        ) from error


def _below(prefix: str, arrays: Arrays) -> Arrays:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
