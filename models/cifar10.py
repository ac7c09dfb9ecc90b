"""CIFAR-10 in its own two formats, as https://www.cs.toronto.edu/~kriz/cifar.html describes them.

    python   cifar-10-batches-py/: pickled dictionaries, `data` uint8 [n, 3072] and `labels`
    binary   cifar-10-batches-bin/: records of 3073 bytes, a label and the pixels

Both are `data_batch_1` to `data_batch_5` for training, `test_batch`, and the names of the classes
in `batches.meta`; a picture is 32 rows of red, then of green, then of blue.

torchvision's `CIFAR10` reads the python version alone, and by the MD5 of the one true set, so that
nothing smaller passes and no file is named; and it unpickles whatever it is given. A pixel that
changed on the disk is not seen here: the format has no checksum. The archive has one, which
`--download` checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError, unreadable
from models.pickles import read_pickle

SIZE = 32
"""Pixels on each side."""
PIXELS = 3 * SIZE * SIZE
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
REMEDY = "take its folder away, and fetch CIFAR-10 anew with --download or by hand"


class Batch(NamedTuple):
    """Pictures uint8 [n, 3, 32, 32] and their labels int64 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Cifar10:
    """The whole set, as it lies in the files."""

    training: Batch
    test: Batch
    classes: tuple[str, ...]


def find_cifar10(folder: Path) -> Path | None:
    """Where the files are: in `folder`, or below it in the folder that the archive unpacks to."""
    for version in VERSIONS:
        if version.is_in(folder):
            return folder
        if (folder / version.folder).is_dir():
            return folder / version.folder
    return None


def read_cifar10(folder: Path) -> Cifar10:
    """Read the folder that `find_cifar10` found.

    Raises InputError, naming the file, for one that is missing, cut off, broken, of another shape,
    with a label that is no class, or with more or fewer pictures than the first.
    """
    version = next((v for v in VERSIONS if v.is_in(folder)), None)
    if version is None:
        raise InputError(f"--data-dir {folder}: none of CIFAR-10's batches is there; {REMEDY}")
    classes = version.read_classes(_readable(folder / version.meta))
    batches: list[Batch] = []
    for file in version.files(folder):
        batch = version.read_batch(_readable(file))
        strange = batch.labels[(batch.labels < 0) | (batch.labels >= len(classes))]
        if len(strange):
            raise _wrong(file, f"labels from 0 to {len(classes) - 1}", str(strange[0]))
        first = batches[0] if batches else batch
        if len(batch.labels) != len(first.labels):
            wanted = f"{len(first.labels)} pictures, as many as {version.files(folder)[0].name}"
            raise _wrong(file, wanted, str(len(batch.labels)))
        batches.append(batch)
    training = Batch(*(np.concatenate(parts) for parts in zip(*batches[:-1], strict=True)))
    return Cifar10(training, batches[-1], tuple(classes))


def _read_pickled_batch(file: Path) -> Batch:
    entry = read_pickle(file, REMEDY)
    if not (isinstance(entry, dict) and {"data", "labels"} <= set(entry)):
        raise _wrong(file, "a dictionary with data and labels", _told(entry))
    pixels, labels = entry["data"], entry["labels"]
    if not (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 2
        and pixels.shape[1] == PIXELS
        and len(pixels) > 0
    ):
        raise _wrong(file, f"data of uint8 [n, {PIXELS}]", _told(pixels))
    if not (isinstance(labels, list) and all(type(label) is int for label in labels)):
        raise _wrong(file, "labels in a list of whole numbers", _told(labels))
    if len(labels) != len(pixels):
        raise _wrong(file, f"{len(pixels)} labels, one for each picture", str(len(labels)))
    try:
        return Batch(pixels.reshape(-1, 3, SIZE, SIZE), np.array(labels, np.int64))
    except OverflowError:
        raise _wrong(
            file, "labels that are small numbers", str(max(labels, key=abs))[:20]
        ) from None


def _read_pickled_classes(file: Path) -> list[str]:
    entry = read_pickle(file, REMEDY)
    names = entry.get("label_names") if isinstance(entry, dict) else None
    if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
        raise _wrong(file, "a dictionary with label_names, the names of the classes", _told(entry))
    return names


def _read_binary_batch(file: Path) -> Batch:
    content = np.fromfile(file, np.uint8)
    if not len(content) or len(content) % (1 + PIXELS):
        raise _wrong(file, f"records of {1 + PIXELS} bytes", f"{len(content)} bytes in all")
    records = content.reshape(-1, 1 + PIXELS)
    pixels = np.ascontiguousarray(records[:, 1:])
    return Batch(pixels.reshape(-1, 3, SIZE, SIZE), records[:, 0].astype(np.int64))


def _read_binary_classes(file: Path) -> list[str]:
    names = file.read_text(encoding="utf-8", errors="replace").split()
    if not names:
        raise _wrong(file, "the names of the classes, one a line", "nothing")
    return names


@dataclass(frozen=True)
class _Version:
    folder: str
    suffix: str
    meta: str
    read_batch: Callable[[Path], Batch]
    read_classes: Callable[[Path], list[str]]

    def files(self, folder: Path) -> list[Path]:
        return [folder / (name + self.suffix) for name in BATCHES]

    def is_in(self, folder: Path) -> bool:
        return any(file.is_file() for file in self.files(folder))


VERSIONS = (
    _Version(
        folder="cifar-10-batches-py",
        suffix="",
        meta="batches.meta",
        read_batch=_read_pickled_batch,
        read_classes=_read_pickled_classes,
    ),
    _Version(
        folder="cifar-10-batches-bin",
        suffix=".bin",
        meta="batches.meta.txt",
        read_batch=_read_binary_batch,
        read_classes=_read_binary_classes,
    ),
)
"""Where a folder holds both, the first is read."""


def _readable(file: Path) -> Path:
    if why := unreadable(file):
        raise InputError(f"--data-dir: {file}, a part of CIFAR-10: {why}; {REMEDY}")
    return file


def _wrong(file: Path, wanted: str, came: str) -> InputError:
    return InputError(f"--data-dir: {file} should hold {wanted}, got {came}; {REMEDY}")


def _told(thing: object) -> str:
    """What came, for an error's line."""
    if isinstance(thing, np.ndarray):
        return f"{thing.dtype} {list(thing.shape)}"
    if isinstance(thing, dict):
        return f"one with {', '.join(map(str, thing))[:60] or 'nothing'}"
    return f"a {type(thing).__name__}"
