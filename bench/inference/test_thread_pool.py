"""Every image is a task of a ThreadPoolExecutor; each worker has one intra-op thread.

torch leaves Python's global lock while an operator runs, so threads do compute at once; they share
the network and copy nothing. `torch.set_num_threads` reaches the calling thread only: each worker
sets it for itself and reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches
from pytest_speedup.machine import pool_threads

START_SECONDS = 60


class ThreadPool(AbstractContextManager["ThreadPool"]):
    """Infers images with `threads` workers, all of them started on entry."""

    def __init__(self, model: nn.Module, threads: int) -> None:
        self._model = model
        self._workers = threads
        self._default = torch.get_num_threads()
        self._counts: list[dict[str, int]] = []

    def __enter__(self) -> ThreadPool:
        self._pool = ThreadPoolExecutor(
            self._workers, initializer=torch.set_num_threads, initargs=(1,)
        )
        everyone = Barrier(self._workers)

        def read_back(_: int) -> dict[str, int]:
            everyone.wait(START_SECONDS)  # so that each worker takes one of these tasks
            return pool_threads()

        self._counts = list(self._pool.map(read_back, range(self._workers)))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        # The workers' calls also changed what threads that start later get.
        torch.set_num_threads(self._default)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, ...]."""
        return torch.cat(list(self._pool.map(self._infer, images.split(1))))

    def _infer(self, image: Tensor) -> Tensor:
        return in_batches(self._model, image, batch_size=1)

    def threads(self) -> Mapping[str, int]:
        """The largest count of each thread pool, as the workers themselves read it."""
        return {name: max(c.get(name, 0) for c in self._counts) for name in self._counts[0]}


@pytest.mark.speedup(axis="threads")
def test_thread_pool(speedup, model, images, logits, threads):
    with ThreadPool(model, threads) as infer:
        speedup(infer, images, expected=logits, work=len(images))
