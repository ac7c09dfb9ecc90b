"""What is loaded: files in batches, and what comes out; without torch, for workers start with it.

An epoch is all images once, in a seeded order that mixes the classes, as training wants it: batches
of files as they lie in their folders would differ in how long they take.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import InputError
from models.cifar10 import find_cifar10
from models.class_folders import load_image, load_pixels, read_class_folders
from models.photo_crops import embedded_folders

NUMBER = 64
"""Images of an epoch where --subset does not say, or fewer where the folder has fewer."""
SIZE = 224
BATCHES = 4
"""Of an epoch, at least: strategies that give whole batches to their workers need several."""
SEED = 0
Arrays = tuple[np.ndarray, np.ndarray]
"""float32 [n, 3, size, size], int64 [n]."""


@dataclass(frozen=True)
class Photos:
    """An epoch's files in their order."""

    name: str
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    size: int
    """Pixels on each side of a loaded image."""
    batch_size: int

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all images of an epoch."""
        return len(self), 3, self.size, self.size

    @property
    def title(self) -> str:
        """`photo-crops-1, 64 images 224px in batches of 16`."""
        return f"{self.name}, {len(self)} images {self.size}px in batches of {self.batch_size}"

    def batches(self) -> list[slice]:
        """The places of each batch's files; the last may be shorter."""
        starts = range(0, len(self), self.batch_size)
        return [slice(start, min(start + self.batch_size, len(self))) for start in starts]


def read_photos(
    data_dir: Path | None, subset: int | None, size: int | None, batch_size: int
) -> Photos:
    """The epoch that the options ask for; raises InputError for what is wrong with them.

    Batches are of `batch_size`, or of a quarter of the epoch where that is less.
    """
    folder = embedded_folders() if data_dir is None else data_dir
    if find_cifar10(folder) is not None:
        raise InputError(
            f"--data-dir {folder}: CIFAR-10's pictures need no decoding, which is what loading is "
            f"about; run bench/training alone, or give a folder of images for each class"
        )
    read = read_class_folders(folder, subset)
    if subset is None and len(read.files) > NUMBER:
        read = read_class_folders(folder, NUMBER)
    order = random.Random(SEED).sample(range(len(read.files)), len(read.files))
    photos = Photos(
        name=read.name,
        files=tuple(read.files[i] for i in order),
        labels=tuple(read.labels[i] for i in order),
        classes=read.classes,
        size=size or SIZE,
        batch_size=max(1, min(batch_size, len(order) // BATCHES)),
    )
    _check_room(photos)
    return photos


def _check_room(photos: Photos) -> None:
    """An epoch is held as loaded, as it should be, and by the strategy in between."""
    needed = 3 * 4 * int(np.prod(photos.shape, dtype=object))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 2:
        raise InputError(
            f"--subset: {photos.title} need {needed / 2**30:.1f} GiB three times over, of the "
            f"machine's {memory / 2**30:.1f}; ask for fewer with --subset, or smaller ones with "
            f"--image-size"
        )


def load_files(files: Sequence[Path], labels: Sequence[int], size: int) -> Arrays:
    """One batch, image after image; raises InputError, naming a file that is broken."""
    images = np.empty((len(files), 3, size, size), np.float32)
    load_into(files, size, images)
    return images, np.array(labels, np.int64)


def load_into(files: Sequence[Path], size: int, images: np.ndarray) -> None:
    """The same, into float32 [n, 3, size, size] that is there."""
    for file, image in zip(files, images, strict=True):
        load_image(file, size, out=image)


def load_bytes(files: Sequence[Path], labels: Sequence[int], size: int) -> Arrays:
    """A batch as uint8 [n, size, size, 3] and its labels, as a worker sends it."""
    pixels = np.empty((len(files), size, size, 3), np.uint8)
    for file, into in zip(files, pixels, strict=True):
        into[...] = load_pixels(file, size)
    return pixels, np.array(labels, np.int64)
