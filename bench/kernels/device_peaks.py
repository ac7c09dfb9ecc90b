"""What a GPU gives, measured by torch's own operators: a copy's bandwidth, a product's rate.

    B      a copy between two arrays that no cache holds; a byte read and written counts twice
    FLOP   a large matrix product by the vendor's library, in float32, TF32 or bfloat16

The best of several rounds each. An operator whose arrays stay in the L2 cache may pass the first.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch

from bench.devices import tf32

ROUNDS = 10
COPIED = 2**28
"""Bytes of each of the two arrays: several times the largest L2 cache."""
SIZE = 4096
"""Rows and columns of the product's three matrices."""


@functools.cache
def device_peak(unit: str, device: str, mode: str = "float32") -> float:
    """FLOP/s or B/s of the device; measured once a process."""
    return copies(device) if unit == "B" else products(device, mode)


def copies(device: str) -> float:
    """The best rate of a copy, in bytes per second, those read and those written."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / _best(lambda: target.copy_(source), device)


def products(device: str, mode: str) -> float:
    """The best rate of a matrix product whose operands are float32, TF32 or bfloat16, in FLOP/s."""
    dtype = torch.bfloat16 if mode == "bfloat16" else torch.float32
    a, b = (torch.ones(SIZE, SIZE, device=device, dtype=dtype) for _ in range(2))
    with tf32(mode == "TF32"):
        return 2 * SIZE**3 / _best(lambda: a @ b, device)


def _best(task: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of several rounds, each waited for."""
    wait: Callable[[], None] = getattr(torch, device).synchronize
    rounds = []
    for _ in range(ROUNDS + 1):
        wait()
        start = time.perf_counter()
        task()
        wait()
        rounds.append(time.perf_counter() - start)
    return min(rounds[1:])
