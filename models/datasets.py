"""What a network is trained on: handwritten digits, CIFAR-10, or one's own class folders.

All come with the classes in turn, so that each subset has some of every class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.choice import DataChoice
from models.cifar10 import find_cifar10, read_cifar10
from models.digits import enlarged, load_digits
from models.errors import InputError, first_line, unreadable
from models.subsets import picked, place_in_class

if TYPE_CHECKING:
    from models.class_folders import ClassFolders

__all__ = ["DataChoice", "Dataset", "load_dataset"]

CIFAR10_MEAN = np.array((0.4914, 0.4822, 0.4465), np.float32)
CIFAR10_STD = np.array((0.2470, 0.2435, 0.2616), np.float32)
"""Of the training images' red, green and blue, on a scale from 0 to 1; the deviation over all
pixels, as in "Deep Learning with PyTorch" (Stevens, Antiga, Viehmann), 7.1, and not the smaller
mean of every image's own."""
TEST_EVERY = 5
"""Of a class without a folder of test images, each fifth is kept for that."""


@dataclass(frozen=True)
class Dataset:
    """Images for training and for testing, normalised, as NumPy arrays."""

    name: str
    images: NDArray[np.float32]
    """[n, 3, size, size], contiguous."""
    labels: NDArray[np.int64]
    """[n], from 0."""
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]


def load_dataset(
    choice: DataChoice, size: int = 32, *, most: int | None = None, classes: int | None = None
) -> Dataset:
    """The data that were chosen, each image of `size` pixels a side; always the same ones.

    Of a subset the training images come with as small a share of the test images. most: images to
    train on that are enough, and to test on; no others are decoded. classes: that the network tells
    apart. Raises InputError, naming the option, the folder or the file, and for more classes before
    an image is read.
    """
    try:
        if choice.data_dir is None:
            return _digits(choice.subset, size, most)
        return _from_folder(choice.data_dir, choice, size, most, classes)
    except MemoryError:
        raise InputError(
            f"the images, {size} px a side, do not fit into this machine's memory; take fewer of "
            f"them with --subset"
        ) from None
    except OSError as error:
        raise InputError(
            f"--data-dir {choice.data_dir}: cannot be read ({first_line(error)})"
        ) from None


def _from_folder(
    folder: Path, choice: DataChoice, size: int, most: int | None, classes: int | None
) -> Dataset:
    why = unreadable(folder, folder=True)
    found = None if why else find_cifar10(folder)
    if found is None and choice.download:
        # Here, because it brings torch.
        from models.cifar10_download import download_cifar10

        found = download_cifar10(folder)
    if found is not None:
        return _cifar10(found, choice.subset, size, most)
    if why is None and not any(path.is_dir() for path in folder.iterdir()):
        why = "it holds neither"
    if why is not None:
        raise InputError(
            f"--data-dir {folder}: {why}; allowed are CIFAR-10, unpacked (cifar-10-batches-py, "
            f"which --download fetches, or cifar-10-batches-bin), and a folder of images for each "
            f"class, in the folder itself or in its folders train and val"
        )
    return _class_folders(folder, choice.subset, size, most, classes)


def _digits(subset: int | None, size: int, most: int | None) -> Dataset:
    images, labels, test_images, test_labels = load_digits(size)
    training, test = (places[:most] for places in picked(labels, test_labels, subset))
    return Dataset(
        "digits",
        images[training],
        labels[training],
        test_images[test],
        test_labels[test],
        classes=tuple("0123456789"),
    )


def _cifar10(folder: Path, subset: int | None, size: int, most: int | None) -> Dataset:
    whole = read_cifar10(folder)
    both = picked(whole.training.labels, whole.test.labels, subset)
    training, test = (places[:most] for places in both)
    return Dataset(
        "cifar10",
        _normalised(whole.training.images[training], size),
        whole.training.labels[training],
        _normalised(whole.test.images[test], size),
        whole.test.labels[test],
        classes=whole.classes,
    )


def _normalised(pictures: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    images = np.multiply(pictures, (1 / 255 / CIFAR10_STD)[:, None, None], dtype=np.float32)
    images -= (CIFAR10_MEAN / CIFAR10_STD)[:, None, None]
    return enlarged(images, size)


def _class_folders(
    folder: Path, subset: int | None, size: int, most: int | None, classes: int | None
) -> Dataset:
    # Here, because it brings Pillow.
    from models.class_folders import load_image, read_class_folders

    def load(files: list[Path], places: NDArray[np.int64]) -> NDArray[np.float32]:
        images = np.empty((len(places), 3, size, size), np.float32)
        for image, place in zip(images, places, strict=True):
            image[:] = load_image(files[place], size)
        return images

    whole = read_class_folders(folder)
    if classes is not None and len(whole.classes) > classes:
        raise InputError(
            f"--data-dir {folder}: {len(whole.classes)} classes, and the network tells {classes} "
            f"apart; give data of {classes} or fewer"
        )
    files, labels = list(whole.files), np.array(whole.labels, np.int64)
    apart = _test_folder(folder)
    if apart is None:
        test = place_in_class(labels) % TEST_EVERY == TEST_EVERY - 1
        if not test.any():
            raise InputError(
                f"--data-dir {folder}: no class has {TEST_EVERY} images, of which the last is kept "
                f"to test; add some, or put those to test into a folder val beside train"
            )
        test_files, test_labels = [files[i] for i in np.flatnonzero(test)], labels[test]
        files, labels = [files[i] for i in np.flatnonzero(~test)], labels[~test]
    else:
        tested = read_class_folders(apart)
        test_files, test_labels = list(tested.files), _labels_in(whole.classes, tested, apart)
    training, testing = (places[:most] for places in picked(labels, test_labels, subset))
    return Dataset(
        whole.name,
        load(files, training),
        labels[training],
        load(test_files, testing),
        test_labels[testing],
        classes=whole.classes,
    )


def _test_folder(folder: Path) -> Path | None:
    """`val` or else `test` beside `train`; ImageNet's own `test` has no classes and does not count.

    None where every image is there to train on.
    """
    beside = [folder / name for name in ("train", "val", "test")]
    train, *others = ([p for p in b.iterdir() if p.is_dir()] if b.is_dir() else [] for b in beside)
    found = (path for path, classes in zip(beside[1:], others, strict=True) if classes)
    return next(found, None) if train else None


def _labels_in(classes: tuple[str, ...], tested: ClassFolders, folder: Path) -> NDArray[np.int64]:
    """The test images' labels by the training classes' numbers."""
    unknown = sorted(set(tested.classes) - set(classes))
    if unknown:
        raise InputError(
            f"--data-dir: {folder} has a class {unknown[0]}, which is not trained on; the classes "
            f"in train are {', '.join(classes)[:200]}"
        )
    return np.array([classes.index(tested.classes[label]) for label in tested.labels], np.int64)
