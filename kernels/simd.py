"""The vector unit that Numba compiles for, and the register tile that fits it.

A tile is up to `points` x `vectors` sums: broadcast numbers (pixels, rows of a matrix) times
vectors of neighbouring channels. It fills the registers but for those that hold the vectors
themselves and one broadcast number.

| tile   | registers    | points x vectors   |
|--------|--------------|--------------------|
| Avx512 | 32 x 64 byte | 14 x 2: 28 + 2 + 1 |
| Avx2   | 16 x 32 byte | 6 x 2: 12 + 2 + 1  |
| Neon   | 32 x 16 byte | 12 x 2: 24 + 2 + 1 |
| Plain  | 16 x 16 byte | 6 x 2, without fused multiply-add |

Fewer points serve what is left over, one vector the last columns. Numba compiles a kernel anew for
each type of its arguments; so a tile is an object of a type of its own, and its constants are class
attributes, which the code that emits LLVM reads from the type.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import llvmlite.binding
import numba
import numpy as np
from numpy.typing import DTypeLike

from kernels.arrays import Array


class Tile:
    """Constants of a tile: width of a vector in bytes, numbers of points from most to 1."""

    width: int
    points: tuple[int, ...]
    vectors = 2
    fused = True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    @classmethod
    def lanes(cls, dtype: DTypeLike) -> int:
        """How many numbers a vector holds."""
        return cls.width // np.dtype(dtype).itemsize

    @classmethod
    def panel(cls, dtype: DTypeLike) -> int:
        """How many columns the tile spans."""
        return cls.vectors * cls.lanes(dtype)

    @classmethod
    def shapes(cls) -> list[tuple[int, int]]:
        """(points, vectors) of every shape in which the tile comes: first those of one vector."""
        return [(points, v) for v in range(1, cls.vectors + 1) for points in cls.points]


class _Value(NamedTuple):
    # Numba wants a field.
    number: int = 0


class Avx512(Tile, _Value):
    """x86 with AVX-512."""

    width = 64
    points = (14, 13, 12, 10, 8, 6, 4, 2, 1)


class Avx2(Tile, _Value):
    """x86 with AVX2 and FMA."""

    width = 32
    points = (6, 5, 4, 3, 2, 1)


class Neon(Tile, _Value):
    """64-bit ARM."""

    width = 16
    points = (12, 10, 8, 6, 4, 2, 1)


class Plain(Tile, _Value):
    """Any other: 16-byte vectors, products and sums rounded apart."""

    width = 16
    points = (6, 5, 4, 3, 2, 1)
    fused = False


@functools.cache
def host_tile() -> Tile:
    """The tile for what Numba compiles for: NUMBA_CPU_FEATURES where that is set, else the host."""
    asked = numba.config.CPU_FEATURES
    if asked is None:
        features = set(llvmlite.binding.get_host_cpu_features().flatten().split(","))
    else:
        features = set(asked.split(","))
    return tile_for(features, llvmlite.binding.get_process_triple())


def tile_for(features: set[str], triple: str) -> Tile:
    """The tile for a CPU by LLVM's names: features as in {"+avx2", "-avx512f"}, "x86_64-..."."""
    if "+avx512f" in features:
        return Avx512()
    if {"+avx2", "+fma"} <= features:
        return Avx2()
    if triple.startswith(("aarch64", "arm64")):
        return Neon()
    return Plain()


def class_of(tile_type: Any) -> Any:
    """The tile's class, from its Numba type."""
    return tile_type.instance_class


def aligned_empty(size: int, dtype: DTypeLike) -> Array:
    """A flat array that starts at a cache line, so that no vector lies across two of them."""
    itemsize = np.dtype(dtype).itemsize
    room = np.empty(size + 64 // itemsize, dtype)
    first = -room.__array_interface__["data"][0] % 64 // itemsize
    return room[first : first + size]
