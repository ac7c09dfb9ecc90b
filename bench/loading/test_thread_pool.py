"""A few images are a task of a ThreadPoolExecutor, which writes them into their batch.

Pillow leaves Python's global lock while it decodes and resizes, and NumPy while it normalises; what
holds it is opening files and the steps between. A few batches are loaded ahead of the one that is
asked for, so that memory is bounded and the workers do not wait for whoever takes the batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
import torch

from bench.loading.epoch import Batch, Epoch, labels_of
from bench.loading.photos import Photos, load_into
from bench.thread_workers import ThreadWorkers

CHUNK = 4
"""Images of a task: each task takes Python's lock, and large ones leave workers idle at the end."""
AHEAD = 3
"""Batches that are being loaded while one is used."""


class ThreadPool(ThreadWorkers):
    """Loads with `threads` workers, all of them started on entry."""

    def __init__(self, photos: Photos, threads: int) -> None:
        super().__init__(threads)
        self._photos = photos

    def __call__(self) -> Iterator[Batch]:
        """An epoch's batches, in order."""
        waiting: deque[tuple[Batch, list[Future[object]]]] = deque()
        for batch in self._photos.batches():
            waiting.append(self._begin(batch))
            if len(waiting) > AHEAD:
                yield _whole(*waiting.popleft())
        while waiting:
            yield _whole(*waiting.popleft())

    def _begin(self, batch: slice) -> tuple[Batch, list[Future[object]]]:
        photos = self._photos
        labels = labels_of(photos, batch)
        images = torch.empty(len(labels), *photos.shape[1:])
        files, into = photos.files[batch], images.numpy()
        tasks = [
            self._pool.submit(load_into, files[i : i + CHUNK], photos.size, into[i : i + CHUNK])
            for i in range(0, len(files), CHUNK)
        ]
        return (images, labels), tasks


def _whole(batch: Batch, tasks: list[Future[object]]) -> Batch:
    for task in tasks:
        task.result()
    return batch


@pytest.mark.speedup(axis="threads")
def test_thread_pool(speedup, photos, epoch, file_cache, threads):
    with ThreadPool(photos, threads) as load:
        timed = Epoch(load, load.threads)
        speedup(timed, expected=epoch, work=len(photos), setup=file_cache, cpus=threads)
