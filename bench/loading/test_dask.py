"""Dask: a batch is a task, of threads, of processes, or of a cluster's workers.

`dask_threads` and `dask_processes` are Dask's schedulers for one machine, which give all batches in
the end. `dask_distributed` starts a cluster on this machine; with `--dask-scheduler ADDRESS` the
same code asks the cluster that is there, whose workers need the same files in the same places and
this checkout on their path, and gets each batch when it is whole.

A process sends a batch as bytes, before normalising, which is a quarter of what it sends otherwise:
float32 through a pipe takes as long as loading the image. So the calling process normalises.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.loading import worker
from bench.loading.epoch import Batch, Epoch, plain, tensors
from bench.loading.photos import Arrays, Photos, load_bytes, load_files
from bench.suite import suite_of
from bench.thread_workers import largest
from models import InputError
from models.class_folders import normalise
from models.errors import first_line
from pytest_speedup.machine import pool_threads

if TYPE_CHECKING:
    from distributed import Client, Future

LOOK_SECONDS = 1.0
"""Between two looks at a cluster's workers."""
HUNG_SECONDS = 120
"""Without a batch."""
START_SECONDS = 60
QUIET = {
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "1s",
    "distributed.scheduler.work-stealing-interval": "1s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}
"""Of a cluster on this machine, that would otherwise wake up fifty times a second to watch itself,
and take a tenth of a CPU from whatever else is being measured."""


def normalised(batch: Arrays) -> Batch:
    """A batch that was sent, as it should be."""
    pixels, labels = batch
    images = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
    for each, into in zip(pixels, images, strict=True):
        normalise(each, into)
    return tensors((images, labels))


def arguments(photos: Photos, batch: slice) -> tuple[Sequence[Path], Sequence[int], int]:
    """What a task needs to know of the epoch."""
    return photos.files[batch], photos.labels[batch], photos.size


def by_threads(photos: Photos, pool: ThreadPoolExecutor) -> Iterator[Batch]:
    """An epoch by Dask's scheduler of threads."""
    import dask

    tasks = [dask.delayed(load_files)(*arguments(photos, b)) for b in photos.batches()]
    yield from map(tensors, dask.compute(*tasks, scheduler="threads", pool=pool))


class Processes(AbstractContextManager["Processes"]):
    """Loads by Dask's scheduler of processes, all started on entry.

    Raises InputError for a broken file, RuntimeError where a worker dies or hangs.
    """

    def __init__(self, photos: Photos, processes: int) -> None:
        self._photos = photos
        self._number = processes

    def __enter__(self) -> Processes:
        context = get_context("spawn")
        everyone = context.Barrier(self._number)
        self._pool = ProcessPoolExecutor(self._number, context, worker.begin, (everyone,))
        try:
            told = list(self._pool.map(worker.meet, range(self._number)))
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            raise
        self._pids = [pid for pid, _ in told]
        self._counts = [counts for _, counts in told]
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self) -> Iterator[Batch]:
        """An epoch's batches, all at once in the end."""
        import dask

        tasks = [
            dask.delayed(load_bytes)(*arguments(self._photos, batch))
            for batch in self._photos.batches()
        ]
        hung = Timer(HUNG_SECONDS, self._kill)  # Dask itself waits for ever
        hung.start()
        try:
            # A chunk are the tasks handed over at a time: by default more than there are.
            batches = dask.compute(*tasks, scheduler="processes", pool=self._pool, chunksize=1)
        except InputError as error:
            raise plain(error) from None
        except BrokenProcessPool as error:
            pids = ", ".join(map(str, self._pids))
            raise RuntimeError(
                f"a worker process of Dask's ({pids}) was killed or died, or gave nothing for "
                f"{HUNG_SECONDS} s; its own message, if it had one, is above"
            ) from error
        finally:
            hung.cancel()
        yield from map(normalised, batches)

    def threads(self) -> Mapping[str, int]:
        """As the workers themselves read it."""
        return largest(self._counts)

    def _kill(self) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)


class Distributed:
    """Loads by some of a cluster's workers; RuntimeError where one of them goes away."""

    def __init__(self, photos: Photos, client: Client, workers: Sequence[str]) -> None:
        self._photos = photos
        self._client = client
        self._workers = list(workers)

    def __call__(self) -> Iterator[Batch]:
        """An epoch's batches, in order."""
        tasks = [
            self._client.submit(
                load_bytes, *arguments(self._photos, batch), workers=self._workers, pure=False
            )
            for batch in self._photos.batches()
        ]
        for task in tasks:
            self._await(task)
            yield normalised(task.result())
        self._all_there()

    def threads(self) -> Mapping[str, int]:
        """As the workers themselves read it."""
        return largest(list(self._client.run(pool_threads, workers=self._workers).values()))

    def _await(self, task: Future) -> None:
        from distributed import TimeoutError as NotYet
        from distributed import wait

        for _ in range(round(HUNG_SECONDS / LOOK_SECONDS)):
            try:
                wait(task, timeout=LOOK_SECONDS)
                return
            except NotYet:
                self._all_there()
        raise RuntimeError(
            f"the Dask workers {', '.join(self._workers)} gave nothing for {HUNG_SECONDS} s; is "
            f"the disk of {self._photos.files[0].parent} there?"
        )

    def _all_there(self) -> None:
        """A worker that died comes back under another address; the others do its tasks, if any."""
        gone = set(self._workers) - set(self._client.nthreads())
        if gone:
            raise RuntimeError(
                f"Dask worker {min(gone)} went away: killed, out of memory, or cut off; its own "
                f"message, if it had one, is above"
            )


@contextmanager
def local_cluster(processes: int) -> Iterator[Client]:
    """A cluster on this machine, of workers with one thread; any free ports, and no dashboard."""
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set(QUIET),
        TemporaryDirectory(prefix="dask-") as folder,
        LocalCluster(
            n_workers=processes,
            threads_per_worker=1,
            host="127.0.0.1",
            scheduler_port=0,
            dashboard_address="127.0.0.1:0",  # None would be port 8787
            local_directory=folder,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(processes, timeout=START_SECONDS)
        yield client


@contextmanager
def cluster_at(address: str) -> Iterator[Client]:
    """The cluster of --dask-scheduler; raises InputError where there is none."""
    from distributed import Client

    try:
        client = Client(address, timeout=START_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--dask-scheduler {address}: no scheduler answers there ({first_line(error)}); start "
            f"one with dask scheduler, or leave the option out for a cluster on this machine"
        ) from None
    with client:
        yield client


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Client]:
    """That of --dask-scheduler, or one of as many workers as the largest arm of this session."""
    address = suite_of(request.config).dask_scheduler
    arms = [item for item in request.session.items if "cluster" in item.fixturenames]
    largest = max(arm.callspec.params["processes"] for arm in arms)
    with cluster_at(address) if address else local_cluster(largest) as client:
        yield client


@pytest.fixture(scope="session")
def dask_processes(photos: Photos) -> Iterator[Callable[[int], Processes]]:
    """Number of processes -> so many of them, started once a session."""
    with ExitStack() as started:
        yield cache(lambda processes: started.enter_context(Processes(photos, processes)))


@pytest.mark.speedup(axis="threads")
@pytest.mark.one_and_all
def test_dask_threads(speedup, photos, epoch, file_cache, threads):
    with ThreadPoolExecutor(threads) as pool:
        load = Epoch(partial(by_threads, photos, pool))
        speedup(load, expected=epoch, work=len(photos), setup=file_cache, cpus=threads)


@pytest.mark.speedup(axis="processes")
@pytest.mark.one_and_all
def test_dask_processes(speedup, photos, epoch, file_cache, dask_processes, processes):
    load = Epoch(dask_processes(processes), dask_processes(processes).threads)
    speedup(load, expected=epoch, work=len(photos), setup=file_cache, cpus=processes)


@pytest.mark.speedup(axis="processes")
@pytest.mark.one_and_all
def test_dask_distributed(speedup, photos, epoch, file_cache, cluster, processes):
    workers = sorted(cluster.nthreads())
    if len(workers) < processes:
        pytest.skip(f"the cluster has {len(workers)} workers")
    distributed = Distributed(photos, cluster, workers[:processes])
    load = Epoch(distributed, distributed.threads)
    speedup(load, expected=epoch, work=len(photos), setup=file_cache, cpus=processes)
