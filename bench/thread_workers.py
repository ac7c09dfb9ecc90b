"""A ThreadPoolExecutor whose workers have all started, with one intra-op thread each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from threading import Barrier
from typing import Any

import torch

from pytest_speedup.machine import pool_threads

START_SECONDS = 60


def largest(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The largest count of each thread pool over all workers."""
    names = dict.fromkeys(name for count in counts for name in count)
    return {name: max(count.get(name, 0) for count in counts) for name in names}


class ThreadWorkers(AbstractContextManager["ThreadWorkers"]):
    """`workers` threads in `self._pool`, all of them started on entry."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._default = torch.get_num_threads()
        self._counts: list[dict[str, int]] = []

    def __enter__(self) -> Any:
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

    def threads(self) -> Mapping[str, int]:
        """As the workers themselves read it."""
        return largest(self._counts)
