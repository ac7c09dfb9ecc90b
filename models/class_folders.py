"""Images in a folder for each class, as LC25000 (`CLASS/*.jpeg`) or ImageNet (`train/CLASS/*`).

Nothing here imports torch: a worker process that decodes images starts within a moment.

A JPEG much larger than what is wanted is decoded at a half, a quarter or an eighth of its size: the
decoder then computes fewer pixels, each a mean over those it leaves out, and the resize after it
has less to read. It is what Pillow's own thumbnails do. The pixels differ a little from those of a
full decode, and in all strategies alike, for all come through `load_image`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from models.errors import InputError, unreadable
from models.photographs import read_photograph

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of files that count as images; those of torchvision's `ImageFolder`."""
RESIZED = 256 / 224
"""Pixels of the shorter side for each that the centre's crop keeps, as ImageNet is prepared."""
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)
"""Of ImageNet's red, green and blue, on a scale from 0 to 1; torchvision's."""


@dataclass(frozen=True)
class ClassFolders:
    """Files and their labels, sorted by class and name."""

    name: str
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    """Of each file, its class's place in `classes`."""
    classes: tuple[str, ...]


def read_class_folders(folder: Path, subset: int | None = None) -> ClassFolders:
    """The images below `folder/CLASS`, or `folder/train/CLASS` where there is such.

    `subset`: so many files, as evenly from all classes as they last. Hidden files and those that
    are no images by their suffix are passed over. Raises InputError for a folder that is missing,
    has fewer than two classes or one without images, or fewer files than the subset wants.
    """
    wanted = "give a folder that holds a folder of images for each class"
    if why := unreadable(folder, folder=True):
        raise InputError(f"--data-dir {folder}: {why}; {wanted}")
    train = folder / "train"
    root = train if train.is_dir() and _folders(train) else folder
    classes = _folders(root)
    if len(classes) < 2:
        found = f"one class alone ({classes[0].name})" if classes else "no class folders"
        raise InputError(f"--data-dir {root}: it holds {found}; {wanted}, two or more")
    by_class = [[(label, file) for file in _images(each)] for label, each in enumerate(classes)]
    for each, files in zip(classes, by_class, strict=True):
        if not files:
            raise InputError(
                f"--data-dir {root}: class folder {each.name} holds no images "
                f"({', '.join(SUFFIXES)}); put some there, or take it away"
            )
    turns = [one for one in chain.from_iterable(zip_longest(*by_class)) if one is not None]
    if subset is not None and not 0 < subset <= len(turns):
        raise InputError(
            f"--subset {subset}: {root} holds {len(turns)} images; allowed: 1 to {len(turns)}"
        )
    labels, files = zip(*sorted(turns[:subset]), strict=True)
    return ClassFolders(
        folder.name or folder.resolve().name, files, labels, tuple(each.name for each in classes)
    )


def load_image(file: Path, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """One file, decoded, turned upright, resized, its centre cropped, normalised.

    Returns float32 [3, size, size], contiguous; in `out` where it is given. Raises InputError,
    naming a file that is no image or broken.
    """
    return normalise(load_pixels(file, size), out)


def load_pixels(file: Path, size: int) -> np.ndarray:
    """All but the last step: uint8 [size, size, 3], a quarter of the bytes."""
    shorter = round(size * RESIZED)
    photograph = read_photograph(file, at_least=shorter)
    longer = shorter * max(photograph.size) // min(photograph.size)
    upright = photograph.height > photograph.width
    width, height = (shorter, longer) if upright else (longer, shorter)
    left, top = (width - size) // 2, (height - size) // 2
    image = photograph.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def normalise(pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """uint8 [size, size, 3] -> float32 [3, size, size], each channel by ImageNet's mean and std."""
    planes = pixels.transpose(2, 0, 1)
    loaded = np.empty(planes.shape, np.float32) if out is None else out
    np.multiply(planes, (1 / 255 / STD)[:, None, None], out=loaded)
    loaded -= (MEAN / STD)[:, None, None]
    return loaded


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise InputError(f"--data-dir {root}: cannot be read ({error.strerror})") from None


def _images(folder: Path) -> list[Path]:
    if why := unreadable(folder, folder=True):
        raise InputError(f"--data-dir: class folder {folder}: {why}; make it readable")
    return sorted(
        p for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )  # fmt: skip
