"""Small files in CIFAR-10's true formats: as its author's Python 2 pickled them, and as records."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 and the NumPy of 2009 wrote it.

    Texts and bytes are the same there, a dtype's flags are numbers, and NumPy has its old names.
    """

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012 - pickle's own way

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, protocol=2)

    def save_string(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, thing: Any, name: str | None = None) -> None:
        if getattr(thing, "__module__", "") == "numpy._core.multiarray":
            self.write(pickle.GLOBAL + f"numpy.core.multiarray\n{thing.__name__}\n".encode())
            self.memoize(thing)
        else:
            super().save_global(thing, name)

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, np.dtype):
            return np.dtype, (thing.str[1:], 0, 1), (3, thing.str[0], None, None, None, -1, -1, 0)
        return NotImplemented


def pickled(thing: object, file: Path) -> None:
    """Write as Python 2 would."""
    with file.open("wb") as stream:
        Python2Pickler(stream).dump(thing)


def pictures(seed: int, number: int = 20) -> tuple[np.ndarray, list[int]]:
    """Noise uint8 [number, 3072], and labels that take the classes in turn."""
    pixels = np.random.default_rng(seed).integers(0, 256, (number, 3072), np.uint8)
    return pixels, [place % 10 for place in range(number)]


def write_python(folder: Path) -> Path:
    """`cifar-10-batches-py` below `folder`, with 20 pictures in each of its six files."""
    into = folder / "cifar-10-batches-py"
    into.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        pixels, labels = pictures(seed)
        entry = {"batch_label": name, "labels": labels, "data": pixels, "filenames": ["a.png"] * 20}
        pickled(entry, into / name)
    meta = {"num_cases_per_batch": 20, "label_names": CLASSES, "num_vis": 3072}
    pickled(meta, into / "batches.meta")
    return into


def write_binary(folder: Path) -> Path:
    """`cifar-10-batches-bin` below `folder`, with the same pictures."""
    into = folder / "cifar-10-batches-bin"
    into.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        pixels, labels = pictures(seed)
        records = np.column_stack([np.array(labels, np.uint8), pixels])
        (into / f"{name}.bin").write_bytes(records.tobytes())
    (into / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    return into
