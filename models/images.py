"""Photographs as a network wants them: decoded, turned upright, resized, cropped, normalised.

The folder's files are taken in the order of their names. Where fewer files than images are asked
for, the further ones are seeded crops of the same photographs, so that no image comes twice and a
result that was kept from another image cannot pass for the right one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import matplotlib.cbook
import torch
import torchvision.models
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import functional
from torchvision.transforms.functional import InterpolationMode

from models.choice import Choice
from models.errors import InputError, unreadable
from models.photographs import read_photograph
from models.registry import OWN

SEED = 0


@dataclass(frozen=True)
class Input:
    """How a network wants its images."""

    size: int
    """Pixels on each side."""
    resize: int
    """Pixels of the shorter side before the centre is cropped."""
    mode: str
    """Pillow's "RGB" or, for one channel, "L"."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: InterpolationMode

    def __call__(self, photograph: Image.Image) -> Tensor:
        """A photograph -> float32 [channels, size, size]."""
        image = functional.resize(
            photograph.convert(self.mode), [self.resize], self.interpolation, antialias=True
        )
        image = functional.center_crop(image, [self.size, self.size])
        return functional.normalize(functional.to_tensor(image), self.mean, self.std)


def input_of(choice: Choice) -> Input:
    """As the network's pretrained weights in torchvision ask; one's own network as resnet18's.

    Another size keeps the proportion between the resized and the cropped photograph.
    """
    own = OWN.get(choice.model)
    if own is not None:
        size = choice.image_size or own.image_size
        half = (0.5,) * len(own.mode)
        return Input(size, size, own.mode, half, half, InterpolationMode.BILINEAR)
    known = "resnet18" if choice.brings_its_own else choice.model
    asked = torchvision.models.get_model_weights(known).DEFAULT.transforms()
    size = choice.image_size or asked.crop_size[0]
    return Input(
        size=size,
        resize=round(size * asked.resize_size[0] / asked.crop_size[0]),
        mode="RGB",
        mean=tuple(asked.mean),
        std=tuple(asked.std),
        interpolation=asked.interpolation,
    )


def load_images(choice: Choice) -> Tensor:
    """float32 [num_inferences, channels, size, size]; raises InputError, naming the file."""
    files = photographs(choice.images)
    prepare = input_of(choice)
    images = _room(choice.num_inferences, prepare)
    photos = [read_photograph(file, says="--images: ") for file in files[: choice.num_inferences]]
    rng = random.Random(SEED)
    for i in range(len(images)):
        photo = photos[i] if i < len(photos) else random_crop(photos[i % len(photos)], rng)
        images[i] = prepare(photo)
    return images


def _room(number: int, wanted: Input) -> Tensor:
    """Memory for all images, before hours go into filling it."""
    try:
        return torch.empty(number, len(wanted.mean), wanted.size, wanted.size)
    except RuntimeError:  # also where the number of bytes has more than 64 bits
        raise InputError(
            f"--num-inferences {number}: as many images of {wanted.size} px do not fit into this "
            f"machine's memory; ask for fewer, or for smaller ones with --image-size"
        ) from None


def photographs(folder: Path | None) -> list[Path]:
    """The folder's files by name, hidden ones left out; by default matplotlib's photograph."""
    if folder is None:
        return [Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))]
    if why := unreadable(folder, folder=True):
        raise InputError(f"--images {folder}: {why}; give a folder of photographs")
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    if not files:
        raise InputError(
            f"--images {folder}: the folder holds no files; put photographs there, or leave the "
            f"option out for the one that ships with matplotlib"
        )
    return files


def random_crop(photograph: Image.Image, rng: random.Random) -> Image.Image:
    """A square of half to the whole of the shorter side, anywhere, mirrored every other time."""
    shorter = min(photograph.size)
    side = rng.randint((shorter + 1) // 2, shorter)
    left = rng.randint(0, photograph.width - side)
    top = rng.randint(0, photograph.height - side)
    crop = photograph.crop((left, top, left + side, top + side))
    return ImageOps.mirror(crop) if rng.random() < 0.5 else crop
