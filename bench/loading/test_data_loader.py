"""PyTorch's DataLoader: a batch is a task, and comes back in memory that the workers share.

`workers=0` loads in the calling thread. The workers are spawned, live as long as the session and
have two batches each begun ahead; torch gives each one thread.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset

from bench.inference.forward import torch_threads
from bench.loading.epoch import Batch, Epoch, plain
from bench.loading.photos import Photos
from models import InputError
from models.class_folders import load_image
from pytest_speedup.machine import pool_threads

HUNG_SECONDS = 120
"""Without a batch."""


class Images(Dataset[tuple[Tensor, int]]):
    """An epoch's images, loaded when they are asked for."""

    def __init__(self, photos: Photos) -> None:
        self._photos = photos

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        """float32 [3, size, size] and its label."""
        photos = self._photos
        return torch.from_numpy(load_image(photos.files[place], photos.size)), photos.labels[place]


class DataLoader(AbstractContextManager["DataLoader"]):
    """Loads with `workers` processes, all started on entry.

    Raises InputError for a broken file; RuntimeError, by torch, where a worker dies or hangs.
    """

    def __init__(self, photos: Photos, workers: int) -> None:
        self._told = multiprocessing.get_context("spawn").Array("i", max(1, workers))
        several = {
            "multiprocessing_context": "spawn",
            "persistent_workers": True,
            "worker_init_fn": partial(_start, self._told),
            "timeout": HUNG_SECONDS,
        }
        with _more_workers_than_cpus():
            self._loader = TorchDataLoader(
                Images(photos),
                batch_size=photos.batch_size,
                num_workers=workers,
                **(several if workers else {}),
            )

    def __enter__(self) -> DataLoader:
        try:
            with _more_workers_than_cpus():
                for _ in self():  # which starts the workers
                    pass
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # torch ends lasting workers with the iterator's last reference, which a traceback may hold.
        if self._loader._iterator is not None:
            self._loader._iterator._shutdown_workers()

    def __call__(self) -> Iterator[Batch]:
        """An epoch's batches, in order."""
        try:
            yield from map(tuple, self._loader)
        except InputError as error:
            raise plain(error) from None

    def threads(self) -> Mapping[str, int]:
        """As the workers themselves read it; they load without any other pool."""
        return {"torch": max(self._told)} if self._loader.num_workers else pool_threads()


@contextmanager
def _more_workers_than_cpus() -> Iterator[None]:
    """They are measured, and labelled in the table; torch need not warn of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _start(told: Any, worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the workers
    told[worker] = torch.get_num_threads()


@pytest.mark.speedup(axis="workers")
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_data_loader(speedup, photos, epoch, file_cache, data_loader, workers):
    with torch_threads(1):  # of the calling thread, which stacks the images where it loads them
        load = Epoch(data_loader(workers), data_loader(workers).threads)
        cpus = max(1, workers)
        speedup(load, expected=epoch, work=len(photos), setup=file_cache, cpus=cpus)
