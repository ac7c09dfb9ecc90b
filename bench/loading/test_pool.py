"""multiprocessing.Pool by `map`, `imap_unordered` and `apply_async`: a task is a few images.

The workers are spawned, because a fork after OpenMP has started can hang, and write each image to
its place in memory that they share with this process; sent through the pool's pipes, 600 kB an
image, two processes would be no faster than the plain loop. What an epoch gives are views of that
memory, good until the next one begins.

`map` waits for everything before it gives the first batch; `imap_unordered` gives a batch when its
images are there, whichever batch that is; `apply_async` gives them in order, as they come.

A Pool replaces a worker that dies and forgets its task, for which everyone would wait for ever. So
nobody here waits without looking after the workers.
"""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.context
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch

from bench.loading import worker
from bench.loading.epoch import Batch, Epoch, as_a_set, labels_of
from bench.loading.photos import Photos
from bench.thread_workers import largest

LOOK_SECONDS = 0.5
"""Between two looks at the workers."""
HUNG_SECONDS = 120
"""Without any image."""
CHUNK = 8
"""Images of a task; handing them out one by one took a seventh of the speed."""


class Pool(AbstractContextManager["Pool"]):
    """Loads with `processes` workers, all started on entry.

    Raises InputError for a broken file, RuntimeError where a worker dies or hangs.
    """

    def __init__(self, photos: Photos, processes: int) -> None:
        self._photos = photos
        self._number = processes
        self._workers: list[BaseProcess] = []
        self._counts: list[dict[str, int]] = []

    def __enter__(self) -> Pool:
        self._context = context = _Context()
        # A file without a name: the system takes it back with the last process that has it.
        block = context.RawArray("f", math.prod(self._photos.shape))
        self._images = torch.from_numpy(worker.view(self._photos, block))
        everyone = context.Barrier(self._number)
        arguments = (self._photos, block, everyone)
        self._pool = context.Pool(self._number, worker.start, arguments)
        self._workers = context.started[: self._number]
        try:
            told = self._await(self._pool.map_async(worker.meet, range(self._number), 1).get)
        except BaseException:
            self._end()
            raise
        self.pids = [pid for pid, _ in told]
        self._counts = [counts for _, counts in told]
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def map(self) -> Iterator[Batch]:
        """An epoch's batches, all at once in the end."""
        self._begin()
        self._await(self._pool.map_async(worker.load, range(len(self._photos))).get)
        yield from map(self._batch, self._photos.batches())
        self._all_there()

    def imap_unordered(self) -> Iterator[Batch]:
        """An epoch's batches, each when it is whole."""
        self._begin()
        batches = self._photos.batches()
        lacking = [batch.stop - batch.start for batch in batches]
        tasks = [task for batch in batches for task in _chunks(batch)]
        loaded = self._pool.imap_unordered(worker.load_all, tasks)
        for _ in tasks:
            places = self._await(loaded.next)
            number = places.start // self._photos.batch_size
            lacking[number] -= len(places)
            if not lacking[number]:
                yield self._batch(batches[number])
        self._all_there()

    def apply_async(self) -> Iterator[Batch]:
        """An epoch's batches in order, each when it is whole."""
        self._begin()
        begun = [
            (batch, [self._pool.apply_async(worker.load_all, (task,)) for task in _chunks(batch)])
            for batch in self._photos.batches()
        ]
        for batch, tasks in begun:
            for task in tasks:
                self._await(task.get)
            yield self._batch(batch)
        self._all_there()

    def threads(self) -> Mapping[str, int]:
        """As the workers themselves read it."""
        return largest(self._counts)

    def _begin(self) -> None:
        # So that an image that nobody loads is not the one of the epoch before.
        self._images[:, 0, 0, 0] = torch.nan

    def _batch(self, batch: slice) -> Batch:
        return self._images[batch], labels_of(self._photos, batch)

    def _await(self, get: Callable[..., Any]) -> Any:
        """What `get` gives, however long it takes, as long as all workers live and one moves."""
        began = time.monotonic()
        while True:
            try:
                return get(timeout=LOOK_SECONDS)
            except multiprocessing.TimeoutError:
                self._all_there()
                if time.monotonic() - began > HUNG_SECONDS:
                    pids = ", ".join(str(each.pid) for each in self._workers)
                    raise RuntimeError(
                        f"the workers of the process pool ({pids}) gave nothing for "
                        f"{HUNG_SECONDS} s; is the disk of {self._photos.files[0].parent} there?"
                    ) from None

    def _all_there(self) -> None:
        for each in self._workers:
            if not each.is_alive():
                raise RuntimeError(
                    f"worker {each.pid} of the process pool {_fate(each)}; its own message, if it "
                    f"had one, is above"
                )

    def _end(self) -> None:
        """Also where a worker was killed while it held the queue's lock, for which all wait."""
        ending = threading.Thread(target=self._pool.terminate, daemon=True)
        ending.start()
        lost = not all(each.is_alive() for each in self._workers)
        ending.join(LOOK_SECONDS if lost else None)  # by then it replaces no workers any more
        for each in self._context.started:
            if each.is_alive():
                each.kill()
            each.join()


class _Context(multiprocessing.context.SpawnContext):
    """Remembers the processes it made: a Pool tells nobody whom it replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[BaseProcess] = []

    def Process(self, *args: Any, **options: Any) -> BaseProcess:  # noqa: N802 -- its name
        """As a Pool asks for it."""
        self.started.append(super().Process(*args, **options))
        return self.started[-1]


def _chunks(batch: slice) -> list[range]:
    starts = range(batch.start, batch.stop, CHUNK)
    return [range(start, min(start + CHUNK, batch.stop)) for start in starts]


def _fate(process: BaseProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended by itself (exit code {code})"


@pytest.fixture(scope="session")
def pool(photos: Photos) -> Iterator[Callable[[int], Pool]]:
    """Number of processes -> a pool of so many, started once a session."""
    with ExitStack() as started:
        yield cache(lambda processes: started.enter_context(Pool(photos, processes)))


@pytest.mark.speedup(axis="processes")
def test_pool_map(speedup, photos, epoch, file_cache, pool, processes):
    load = Epoch(pool(processes).map, pool(processes).threads)
    speedup(load, expected=epoch, work=len(photos), setup=file_cache, cpus=processes)


@pytest.mark.speedup(axis="processes")
def test_pool_imap_unordered(speedup, photos, epoch, file_cache, pool, processes):
    load = Epoch(pool(processes).imap_unordered, pool(processes).threads)
    check = as_a_set(epoch)
    speedup(load, expected=check, work=len(photos), setup=file_cache, cpus=processes)


@pytest.mark.speedup(axis="processes")
def test_pool_apply_async(speedup, photos, epoch, file_cache, pool, processes):
    load = Epoch(pool(processes).apply_async, pool(processes).threads)
    speedup(load, expected=epoch, work=len(photos), setup=file_cache, cpus=processes)
