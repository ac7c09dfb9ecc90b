"""What a GPU gives, measured by torch's own operators: a copy's bandwidth, a product's rate.

    B      a copy between two arrays that no cache holds; a byte read and written counts twice
    FLOP   a large matrix product by the vendor's library, in float32, TF32 or bfloat16

The best of several rounds each; a round is so many in a row that starting the first and waiting for
the last is next to nothing. The operands are random: zeros and ones let a GPU clock higher.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import ceil

import torch

from bench.devices import tf32
from bench.kernels.repeated import Repeated, waited_for

ROUNDS = 10
ROUND_SECONDS, MOST_IN_A_ROUND = 1e-2, 100
COPIED = 2**28
"""Bytes of each of the two arrays: several times the largest L2 cache."""
SIZE = 4096
"""Rows and columns of the product's three matrices."""
STARTED = 1000
"""Kernels that are started in a row to tell what starting one costs."""


@functools.cache
def device_peak(unit: str, device: str, mode: str = "float32") -> float:
    """FLOP/s or B/s of the device; measured once a process."""
    return copies(device) if unit == "B" else products(device, mode)


def copies(device: str) -> float:
    """The best rate of a copy, in bytes per second, those read and those written."""
    source = torch.randn(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / _best(lambda: target.copy_(source), device)


def products(device: str, mode: str) -> float:
    """The best rate of a matrix product whose operands are float32, TF32 or bfloat16, in FLOP/s."""
    dtype = torch.bfloat16 if mode == "bfloat16" else torch.float32
    a, b = (torch.randn(SIZE, SIZE, device=device).to(dtype) for _ in range(2))
    with tf32(mode == "TF32"):
        return 2 * SIZE**3 / _best(lambda: a @ b, device)


@functools.cache
def launch_seconds(device: str) -> float:
    """What starting one kernel costs as operators are timed here, by one that does next to nothing.

    On CUDA within a graph; elsewhere asked for by Python.
    """
    number = torch.zeros(1, device=device)
    started = Repeated([lambda: number.add_(1)], STARTED, device)
    started()
    return min(waited_for(started, device, times=1) for _ in range(ROUNDS)) / STARTED


def _best(task: Callable[[], object], device: str) -> float:
    """Seconds of a task in the fastest of several rounds."""
    task()
    times = min(MOST_IN_A_ROUND, ceil(ROUND_SECONDS / waited_for(task, device)))

    def in_a_row() -> None:
        for _ in range(times):
            task()

    return min(waited_for(in_a_row, device, times=1) for _ in range(ROUNDS)) / times
