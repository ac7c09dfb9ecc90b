"""Class folders without a network: crops of the photographs that scikit-learn and matplotlib ship.

A class is a part of a photograph, so that a network can learn to tell them apart: each of its
images is a square from that part, of seeded place and size, at 768x768 as the images of LC25000.
They are written once, into a cache folder, and are the same bytes for the same Pillow.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from models.errors import InputError, first_line
from models.photographs import read_photograph

VERSION = 1
"""Of what is written; another one goes into another folder."""
SIZE = 768
"""Pixels on each side."""
PER_CLASS = 20
QUALITY = 95
"""Of the JPEG files, which makes them about as large as a camera's of that size."""
SEED = 0
SCIKIT_LEARN, MATPLOTLIB = ("sklearn", "datasets/images"), ("matplotlib", "mpl-data/sample_data")
PARTS = {
    "china_left": (*SCIKIT_LEARN, "china.jpg", (0.0, 0.5)),
    "china_right": (*SCIKIT_LEARN, "china.jpg", (0.5, 1.0)),
    "flower_left": (*SCIKIT_LEARN, "flower.jpg", (0.0, 0.5)),
    "flower_right": (*SCIKIT_LEARN, "flower.jpg", (0.5, 1.0)),
    "grace_hopper": (*MATPLOTLIB, "grace_hopper.jpg", (0.0, 1.0)),
}
"""Class -> package, folder, photograph, and from where to where of its width."""


def embedded_folders() -> Path:
    """The folder of the five class folders, written at the first call.

    It appears whole or not at all: it is written beside its place and then renamed. Raises
    InputError where it cannot be written, or has lost files since.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-speedup"
    folder = cache / f"photo-crops-{VERSION}"
    if not folder.is_dir():
        _write_beside(folder)
    lost = [name for name in _names() if not _has_bytes(folder / name)]
    if lost:
        raise InputError(
            f"{folder}: {len(lost)} of its {len(PARTS) * PER_CLASS} images are missing or empty, "
            f"such as {lost[0]}; remove the folder, and it is written again"
        )
    return folder


def _names() -> list[str]:
    return [f"{part}/{i:02}.jpeg" for part in PARTS for i in range(PER_CLASS)]


def _has_bytes(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _write_beside(folder: Path) -> None:
    beside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        for part in PARTS:
            _write_part(beside / part, part)
        beside.chmod(0o755)  # mkdtemp's are for their owner alone
        beside.rename(folder)
    except OSError as error:
        # Another process may have been quicker: a folder with files is not renamed over.
        if not folder.is_dir():
            raise InputError(
                f"{folder}: the crops of photographs cannot be written there "
                f"({error.strerror or first_line(error)}); make room, or set XDG_CACHE_HOME to a "
                f"folder that can be written, or give images of your own with --data-dir"
            ) from None
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


def _write_part(folder: Path, part: str) -> None:
    package, place, name, (begin, end) = PARTS[part]
    photograph = read_photograph(_installed(package) / place / name)
    width, height = photograph.size
    region = photograph.crop((round(begin * width), 0, round(end * width), height))
    rng = random.Random(f"{SEED} {part}")
    folder.mkdir()
    for i in range(PER_CLASS):
        side = rng.randint(min(region.size) // 2, min(region.size))
        left = rng.randint(0, region.width - side)
        top = rng.randint(0, region.height - side)
        crop = region.crop((left, top, left + side, top + side))
        large = crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        large.save(folder / f"{i:02}.jpeg", quality=QUALITY)


def _installed(package: str) -> Path:
    """Where a package's files lie; it need not be imported, which takes seconds."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise InputError(
            f"{package} is not installed, whose photographs are the images by default; "
            f'pip install ".[suite]", or give images of your own with --data-dir'
        )
    return Path(found.origin).parent
