"""Many launches as one call: a single operator on a GPU is done sooner than Python can ask for it.

On CUDA the launches are captured once as a graph and replayed, so that what is timed is the device.
There is no such thing on MPS: there a launch lasts at least as long as Python takes to ask for it.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], Tensor]

CALL_SECONDS, MOST_LAUNCHES = 4e-3, 1024
"""How long a call is meant to last, and how many launches it may be."""


class Repeated:
    """`launches` calls on the device, one after another; returns the last one's result, float32.

    Each of `calls` keeps its result until its next turn, so results take turns as arguments do: an
    allocator would give the memory just freed to the next one, which the L2 cache still holds.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        launches: int,
        device: str,
        design: Mapping[str, float | int] | None = None,
    ) -> None:
        self.device = device
        self.design = design
        """What a call's design costs, for `speedup(design=)`; told, never used."""
        self.repeats = launches
        self._calls = calls
        self._graph = self._captured() if device == "cuda" else None

    def _captured(self) -> Any:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = self._run()
        return graph

    def _run(self) -> Tensor:
        results: deque[Tensor] = deque()
        for call in itertools.islice(itertools.cycle(self._calls), self.repeats):
            if len(results) == len(self._calls):
                results.popleft()
            results.append(call())
        return results[-1].float()

    def __call__(self) -> Tensor:
        """Start them all; the device may still be at it. The next call may overwrite the result."""
        if self._graph is None:
            return self._run()
        self._graph.replay()
        return self._result


def launches_of(calls: Sequence[Call], device: str) -> int:
    """So many that a call lasts `CALL_SECONDS`, each of `calls` being taken equally often."""
    calls[0]()  # compiles
    wanted = _fitting(waited_for(calls[0], device))
    if device == "cuda":  # asking took longer than doing it: as a graph it is the device's time
        wanted = _fitting(waited_for(Repeated(calls[:1], wanted, device), device) / wanted)
    return max(1, wanted // len(calls)) * len(calls)


def _fitting(seconds: float) -> int:
    return min(MOST_LAUNCHES, max(1, round(CALL_SECONDS / seconds)))


def waited_for(call: Callable[[], Any], device: str, times: int = 5) -> float:
    """Seconds until one call's result is there, the median of some."""
    wait = getattr(torch, device).synchronize
    spent = []
    for _ in range(times):
        wait()
        start = time.perf_counter()
        call()
        wait()
        spent.append(time.perf_counter() - start)
    return sorted(spent)[times // 2]
