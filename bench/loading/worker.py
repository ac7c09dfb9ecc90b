"""What the processes of a pool run; without torch, so that it starts soon."""

from __future__ import annotations

import os
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench.lifetime import end_with_parent
from bench.loading.photos import Photos
from models.class_folders import load_image
from pytest_speedup.machine import pool_threads

START_SECONDS = 120


class _Worker:
    """What a worker keeps between its tasks; a pool leaves it no place but a global."""

    photos: Photos
    images: np.ndarray
    everyone: Barrier


def begin(everyone: Barrier) -> None:
    """Once in each worker of any pool of processes."""
    end_with_parent()
    threadpool_limits(1)
    _Worker.everyone = everyone


def start(photos: Photos, block: Any, everyone: Barrier) -> None:
    """Once in each worker of `Pool`. `block`: room for an epoch's images, in shared memory."""
    begin(everyone)
    _Worker.photos = photos
    _Worker.images = view(photos, block)


def view(photos: Photos, block: Any) -> np.ndarray:
    """Shared memory as float32 [n, 3, size, size]."""
    return np.frombuffer(block, np.float32).reshape(photos.shape)


def meet(_: int) -> tuple[int, dict[str, int]]:
    """The worker's process and threads, once all workers have come."""
    _Worker.everyone.wait(START_SECONDS)  # so that each worker takes one of these tasks
    return os.getpid(), pool_threads()


def load(place: int) -> int:
    """Load one image of the epoch into its place."""
    photos = _Worker.photos
    load_image(photos.files[place], photos.size, out=_Worker.images[place])
    return place


def load_all(places: range) -> range:
    """Load some images of the epoch, one after another."""
    for place in places:
        load(place)
    return places
