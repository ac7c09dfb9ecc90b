"""How large a part of a product one of Triton's programs computes: chosen by shape, never timed.

So the first call of a shape is not slower than the next, and the same call gives the same bits on
every day.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from kernels.gpu.operator import ceil_div


class Tile(NamedTuple):
    """A program's part of a product [M, K] times [K, N], and how it goes about it."""

    down: int
    """Of M."""
    across: int
    """Of N."""
    depth: int
    """Of K, in one step of the loop."""
    warps: int
    stages: int
    """Steps whose operands are on their way at once."""


ENOUGH = 132
"""Programs: one for every multiprocessor of an H200."""
CORES = (
    Tile(128, 128, 16, 8, 3),
    Tile(128, 64, 16, 4, 3),
    Tile(64, 64, 16, 4, 3),
    Tile(128, 16, 16, 4, 3),
    Tile(64, 32, 16, 2, 3),
    Tile(32, 32, 32, 2, 3),
    Tile(16, 16, 32, 1, 3),
)
"""For the CUDA cores: at 128 x 128, 64 sums in the registers of each of 256 threads."""
TENSOR_CORES = (
    Tile(128, 128, 32, 8, 4),
    Tile(128, 64, 32, 4, 4),
    Tile(64, 64, 32, 4, 4),
    Tile(128, 16, 32, 4, 4),
    Tile(64, 32, 32, 4, 4),
    Tile(64, 16, 32, 4, 4),
    Tile(16, 16, 32, 1, 4),
)
"""From 64 down, four warps share the instructions of a whole warp group (wgmma)."""
TILES = {"ieee": CORES, "tf32": TENSOR_CORES, "bf16": TENSOR_CORES}
"""By mode, largest first."""


@functools.lru_cache(maxsize=512)
def tile(mode: str, down: int, across: int, times: int = 1) -> Tile:
    """The largest tile that leaves no multiprocessor without a program, for `times` products.

    Of those that are not more than twice as large as the product along either side; where none
    makes programs enough, that which makes most.
    """
    tiles = TILES[mode]
    fitting = [t for t in tiles if t.down < 2 * down and t.across < 2 * across] or tiles[-1:]
    for each in fitting:
        if programs(each, down, across, times) >= ENOUGH:
            return each
    return max(fitting, key=lambda each: programs(each, down, across, times))


def programs(each: Tile, down: int, across: int, times: int) -> int:
    """How many of a tile cover `times` products."""
    return ceil_div(down, each.down) * ceil_div(across, each.across) * times
