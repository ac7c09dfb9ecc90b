"""Worker processes take images off a common counter; each has one intra-op thread.

They are spawned, because a fork after OpenMP has started can hang. Network, images and results lie
in shared memory: a task says how many images there are and nothing else. A call copies its images
there, which is part of the price and timed.

A spawned worker imports torch for seconds. So one pool, as large as the sweep asks, is started once
a session; an arm gives tasks to as many of its workers as it measures, and the others sleep.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches
from bench.inference.shared import Shared, share
from bench.lifetime import end_with_parent
from bench.thread_workers import largest
from pytest_speedup.machine import pool_threads

START_SECONDS = 300


class ProcessPool(AbstractContextManager["ProcessPool"]):
    """Up to `processes` workers for images of the shape of `like`, all started on entry.

    Raises RuntimeError where the network cannot be sent to another process, or a worker dies.
    """

    def __init__(self, model: nn.Module, like: Tensor, processes: int) -> None:
        self._workers = processes
        one = in_batches(model, like[:1], batch_size=1)
        logits = one.new_empty(len(like), *one.shape[1:])
        try:
            self._shared = share((model, like, logits))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise RuntimeError(
                f"the network cannot be sent to another process ({error}); define its classes and "
                f"functions at the top level of a module"
            ) from error
        _, self._images, self._logits = self._shared.open()

    def __enter__(self) -> ProcessPool:
        context = multiprocessing.get_context("spawn")
        self._next = context.Value("q", 0)
        everyone = context.Barrier(self._workers)
        self._pool = ProcessPoolExecutor(
            self._workers,
            context,
            initializer=_start,
            initargs=(self._shared, self._next, everyone),
        )
        try:
            told = self._on_each(self._workers, _meet, starting=True)
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            raise
        self.pids = [pid for pid, _ in told]
        self._counts = [count for _, count in told]
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def workers(self, processes: int) -> Workers:
        """The pool, limited to that many of its workers."""
        return Workers(self, processes)

    def infer(self, images: Tensor, processes: int) -> Tensor:
        """Logits [n, classes] of images [n, ...] from `processes` workers."""
        self._images.copy_(images)
        self._next.value = 0
        self._on_each(processes, _infer)
        return self._logits.clone()

    def threads(self) -> Mapping[str, int]:
        """The largest count of each thread pool, as the workers themselves read it."""
        return largest(self._counts)

    def _on_each(
        self, processes: int, task: Callable[[], Any], *, starting: bool = False
    ) -> list[Any]:
        try:
            futures = [self._pool.submit(task) for _ in range(processes)]
            if starting:
                # A submit wakes the executor before it starts its worker. Without one more, the
                # last worker could die unseen.
                self._pool.submit(os.getpid)
            wait(futures)  # also where one failed: the others may still be at work
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker of the process pool died: killed, out of memory, or unable to import "
                "what the network needs; its own message, if it had one, is above"
            ) from error


@dataclass(frozen=True)
class Workers:
    """A pool limited to some of its workers."""

    pool: ProcessPool
    processes: int

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, ...]."""
        return self.pool.infer(images, self.processes)

    def threads(self) -> Mapping[str, int]:
        """As the workers read it."""
        return self.pool.threads()


class _Worker:
    """What a worker keeps between its tasks; an executor leaves it no place but a global."""

    model: nn.Module
    images: Tensor
    logits: Tensor
    next: Synchronized[int]
    everyone: Barrier


def _start(shared: Shared, next_image: Synchronized[int], everyone: Barrier) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    _Worker.model, _Worker.images, _Worker.logits = shared.open()
    _Worker.next, _Worker.everyone = next_image, everyone


def _meet() -> tuple[int, dict[str, int]]:
    _Worker.everyone.wait(START_SECONDS)  # so that each worker takes one of these tasks
    return os.getpid(), pool_threads()


def _infer() -> None:
    images, logits = _Worker.images, _Worker.logits
    while (i := _take()) < len(images):
        logits[i : i + 1] = in_batches(_Worker.model, images[i : i + 1], batch_size=1)


def _take() -> int:
    with _Worker.next.get_lock():
        _Worker.next.value += 1
        return _Worker.next.value - 1


@pytest.fixture(scope="session")
def process_pool(
    request: pytest.FixtureRequest, model: nn.Module, images: Tensor
) -> Iterator[ProcessPool]:
    """As many workers as the largest arm of this session asks."""
    arms = [item for item in request.session.items if "process_pool" in item.fixturenames]
    with ProcessPool(model, images, max(i.callspec.params["processes"] for i in arms)) as pool:
        yield pool


@pytest.mark.speedup(axis="processes")
def test_process_pool(speedup, process_pool, images, logits, processes):
    speedup(process_pool.workers(processes), images, expected=logits, work=len(images))
