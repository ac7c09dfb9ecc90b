"""Which images are taken of many: of every class alike, and always the same ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError


def in_turns(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of all labels, one of each class in turn, until the classes are used up.

    So every beginning of it is as balanced as can be, and a longer one contains the shorter.
    """
    return np.lexsort((labels, place_in_class(labels)))


def place_in_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each label, how many of the same stand before it."""
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    places = np.empty(len(labels), np.int64)
    places[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def picked(
    labels: NDArray[np.int64], test_labels: NDArray[np.int64], subset: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of `subset` training images, and of as small a share of the test images, one or more.

    Both stand in turns. Raises InputError for more than there are.
    """
    if subset is None:
        return in_turns(labels), in_turns(test_labels)
    if not 1 <= subset <= len(labels):
        raise InputError(
            f"--subset {subset}: there are {len(labels)} training images; allowed: 1 to "
            f"{len(labels)}"
        )
    share = max(1, round(len(test_labels) * subset / len(labels)))
    return in_turns(labels)[:subset], in_turns(test_labels)[:share]
