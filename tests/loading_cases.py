"""Small class folders, and every way of loading them, for the tests of `bench/loading`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
from PIL import Image

from bench.loading.photos import read_photos
from bench.loading.test_dask import (
    Distributed,
    Processes,
    by_threads,
    local_cluster,
)
from bench.loading.test_data_loader import DataLoader
from bench.loading.test_loop import loop
from bench.loading.test_pool import Pool
from bench.loading.test_thread_pool import ThreadPool

NUMBER, SIZE, BATCH = 13, 24, 3
"""Images, their pixels a side, and batches of which the last is short."""


def make_photos(folder):
    """Photos of 13 JPEGs in three class folders, each of other pixels."""
    rng = np.random.default_rng(0)
    for i in range(NUMBER):
        file = folder / f"class{i % 3}" / f"{i:02}.jpeg"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((80, 60)).save(file)
    return read_photos(folder, None, SIZE, BATCH)


@contextmanager
def _pool(how, photos):
    with Pool(photos, 2) as pool:
        yield getattr(pool, how)


@contextmanager
def _dask_threads(photos):
    with ThreadPoolExecutor(2) as pool:
        yield partial(by_threads, photos, pool)


@contextmanager
def _dask_distributed(photos):
    with local_cluster(2) as client:
        yield Distributed(photos, client, sorted(client.nthreads()))


@contextmanager
def _loop(photos):
    yield partial(loop, photos)


LOADERS: dict[str, Callable[..., Iterator]] = {
    "loop": _loop,
    "thread_pool": partial(ThreadPool, threads=2),
    "pool_map": partial(_pool, "map"),
    "pool_imap_unordered": partial(_pool, "imap_unordered"),
    "pool_apply_async": partial(_pool, "apply_async"),
    "dask_threads": _dask_threads,
    "dask_processes": partial(Processes, processes=2),
    "dask_distributed": _dask_distributed,
    "data_loader_0": partial(DataLoader, workers=0),
    "data_loader_2": partial(DataLoader, workers=2),
}
"""Name -> a context manager that takes photos and gives a function that begins an epoch."""
