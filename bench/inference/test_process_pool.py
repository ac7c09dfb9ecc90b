"""Every image is a task of a ProcessPoolExecutor; each worker has one intra-op thread.

The workers are spawned, because a fork after OpenMP has started can hang. Network, images and
results lie in shared memory: a task carries the number of an image and nothing else. A call copies
its images there, which is part of the price and timed.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Barrier
from types import TracebackType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches
from bench.inference.shared import Shared, share
from pytest_speedup.machine import pool_threads

START_SECONDS = 300


class ProcessPool:
    """Infers images of the shape of `like` with `processes` workers, all started on entry.

    Raises RuntimeError where the network cannot be sent to another process, or a worker dies.
    """

    def __init__(self, model: nn.Module, like: Tensor, processes: int) -> None:
        self._workers = processes
        self._counts: Sequence[dict[str, int]] = []
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
        everyone = context.Barrier(self._workers)
        self._pool = ProcessPoolExecutor(
            self._workers, context, initializer=_start, initargs=(self._shared, everyone)
        )
        try:
            self._counts = self._map(_meet, range(self._workers))
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, ...]."""
        self._images.copy_(images)
        self._map(_infer, range(len(images)))
        return self._logits.clone()

    def _map(self, task: Callable[[int], Any], numbers: Sequence[int]) -> list[Any]:
        try:
            return list(self._pool.map(task, numbers))
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker of the process pool died: killed, out of memory, or unable to import "
                "what the network needs; its own message, if it had one, is above"
            ) from error

    def threads(self) -> Mapping[str, int]:
        """The largest count of each thread pool, as the workers themselves read it."""
        return {name: max(c.get(name, 0) for c in self._counts) for name in self._counts[0]}

    def pids(self) -> list[int]:
        """The workers' process ids."""
        return sorted(count["pid"] for count in self._counts)


class _Worker:
    """What a worker process keeps between its tasks; an executor leaves it no place but a global."""

    model: nn.Module
    images: Tensor
    logits: Tensor
    everyone: Barrier


def _start(shared: Shared, everyone: Barrier) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _Worker.model, _Worker.images, _Worker.logits = shared.open()
    _Worker.everyone = everyone


def _end_with_parent() -> None:
    """A parent that is killed cannot end its pool, and idle workers would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _meet(_: int) -> dict[str, int]:
    _Worker.everyone.wait(START_SECONDS)  # so that each worker takes one of these tasks
    return pool_threads() | {"pid": os.getpid()}


def _infer(i: int) -> None:
    _Worker.logits[i : i + 1] = in_batches(_Worker.model, _Worker.images[i : i + 1], batch_size=1)


@pytest.mark.speedup(axis="processes")
def test_process_pool(speedup, model, images, logits, processes):
    with ProcessPool(model, images, processes) as infer:
        speedup(infer, images, expected=logits, work=len(images))
