"""One epoch as it is timed and proved: every batch of it, as tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from bench.loading.photos import Arrays, Photos
from models import InputError
from pytest_speedup.machine import pool_threads

Batch = tuple[Tensor, Tensor]
"""float32 [n, 3, size, size], int64 [n]."""
Load = Callable[[], Iterable[Batch]]
"""Begins an epoch; its batches may be good only until the next one begins."""


class Epoch:
    """Loads an epoch when called, and tells of the threads that its workers have."""

    def __init__(self, load: Load, threads: Callable[[], Mapping[str, int]] | None = None) -> None:
        self._load = load
        self.threads = threads or pool_threads

    def __call__(self) -> list[Batch]:
        """All batches."""
        return list(self._load())


def tensors(arrays: Arrays) -> Batch:
    """Without a copy."""
    return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])


def labels_of(photos: Photos, batch: slice) -> Tensor:
    """int64 [n]."""
    return torch.tensor(photos.labels[batch], dtype=torch.int64)


def plain(error: InputError) -> InputError:
    """Its one line, out of the traceback of the worker that raised it."""
    lines = str(error).strip().splitlines()
    told = [line.split("InputError: ", 1)[1] for line in lines if "InputError: " in line]
    return InputError(told[-1] if told else lines[0])


def as_a_set(expected: Sequence[Batch]) -> Callable[[Sequence[Batch]], None]:
    """A check for loaders whose order is free: each image once, every bit, with its own label."""
    wanted = Counter(_pairs(expected))

    def every_bit_in_any_order(batches: Sequence[Batch]) -> None:
        for images, labels in batches:
            assert images.dtype == torch.float32, f"wanted torch.float32, got {images.dtype}"
            assert labels.dtype == torch.int64, f"wanted torch.int64, got {labels.dtype}"
            assert len(images) == len(labels), f"{len(images)} images, {len(labels)} labels"
        sizes = Counter(len(labels) for _, labels in batches)
        assert sizes == Counter(len(labels) for _, labels in expected), f"batches of {dict(sizes)}"
        found = Counter(_pairs(batches))
        missing, more = wanted - found, found - wanted
        assert not missing, (
            f"{missing.total()} images are missing, or have other pixels or another label; "
            f"{more.total()} are there that should not be"
        )

    return every_bit_in_any_order


def _pairs(batches: Sequence[Batch]) -> Iterator[tuple[bytes, int]]:
    for images, labels in batches:
        for image, label in zip(images, labels.tolist(), strict=True):
            yield image.numpy().tobytes(), label
