"""What a network is trained on: handwritten digits, CIFAR-10, or one's own class folders."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.choice import DataChoice
from models.digits import load_digits
from models.errors import InputError

__all__ = ["DataChoice", "Dataset", "load_dataset"]


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


def load_dataset(choice: DataChoice, size: int = 32) -> Dataset:
    """The data that were chosen, each image of `size` pixels a side.

    Raises InputError, naming the option, the folder or the file.
    """
    if choice.data_dir is not None:
        raise InputError(f"--data-dir {choice.data_dir}: not read yet")
    whole = Dataset("digits", *load_digits(size), classes=tuple("0123456789"))
    return whole if choice.subset is None else _subset(whole, choice.subset)


def _subset(whole: Dataset, number: int) -> Dataset:
    """`number` training images, of every class alike, and as small a share of the test images."""
    training = in_turns(whole.labels)[: check_subset(number, len(whole.labels))]
    test = in_turns(whole.test_labels)[: test_share(number, whole)]
    return replace(
        whole,
        images=whole.images[training],
        labels=whole.labels[training],
        test_images=whole.test_images[test],
        test_labels=whole.test_labels[test],
    )


def check_subset(number: int, most: int) -> int:
    """`number`; raises InputError for more than there are."""
    if number > most:
        raise InputError(f"--subset {number}: there are only {most} training images; ask for fewer")
    return number


def test_share(number: int, whole: Dataset) -> int:
    """How many test images go with `number` training images: the same share, but one at least."""
    return max(1, round(len(whole.test_labels) * number / len(whole.labels)))


def in_turns(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of all labels, one of each class in turn, until the classes are used up.

    So every beginning of it is as balanced as can be, and a longer one contains the shorter.
    """
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    turn = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return by_class[np.lexsort((labels[by_class], turn))]
