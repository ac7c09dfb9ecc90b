"""A pooling's windows as its kernels on a GPU read them, kept there for calls of equal shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kernels.arrays import Array
from kernels.pooling import Axis, Grid

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """The windows of one call on [planes, H, W], in numbers and in tables on the device."""

    shape: tuple[int, ...]
    """The output's, as the caller has it: [N, C, P, Q] or [C, P, Q]."""
    sizes: tuple[int, int, int, int, int]
    """planes, H, W, P, Q."""
    rows: Tensor
    columns: Tensor
    """int64 [3 P + 2 H], and so for columns: each window's first index, how many are inside, its
    share of the divisor; from which window on and up to below which an index is covered."""
    filled: bool = True
    """Whether all windows hold something; else dilation steps over a small input, in all."""
    halving: int = 0
    """2 or 3 where all windows are of that size, 2 apart, padded by 0 or 1, over an even width; for
    them the kernels have faster code."""

    spans_rows: bool = False
    """Whether each window is whole rows of the image."""

    whole: bool = False
    """Whether one window is the whole image."""

    @property
    def outputs(self) -> int:
        """How many numbers come out."""
        planes, _, _, p, q = self.sizes
        return planes * p * q

    @property
    def inputs(self) -> int:
        """How many numbers go in."""
        planes, h, w, *_ = self.sizes
        return planes * h * w

    def halved(self, *tensors: Tensor) -> tuple[int, int]:
        """`halving`, or 0 where the tensors do not lie for it; how many outputs a thread makes.

        Those of a thread are loaded as one vector, 2 or 1 windows wide, and have to begin on its
        size.
        """
        if self.halving:
            for each in (2, 1):
                if self.sizes[2] % (2 * each) == 0 and all(
                    tensor.data_ptr() % (8 * each) == 0 for tensor in tensors
                ):
                    return self.halving, each
        return 0, 1

    def check(self, name: str, tensor: Tensor) -> None:
        """Raise ValueError unless the tensor is shaped as the output."""
        if tensor.shape != self.shape:
            raise ValueError(f"{name} must have shape {self.shape}, got {tuple(tensor.shape)}")


def windows_on(
    device: str,
    shape: tuple[int, ...],
    grid: Grid,
    window: tuple[tuple[int, int], ...] = (),
) -> Windows:
    """For an input of `shape`; `window`: kernel, stride, padding and dilation where they slide."""
    import torch

    *leading, h, w = shape
    p, q = grid.rows.outputs, grid.columns.outputs
    halving = 0
    for size in (2, 3):
        kind = ((size, size), (2, 2), (size - 2, size - 2), (1, 1))
        if window == kind and w % 2 == 0 and q == w // 2:
            halving = size
    spans_rows = q == 1 and grid.columns.windows[1, 0] == w
    whole = bool(spans_rows and p == 1 and grid.rows.windows[1, 0] == h)
    tables = [torch.from_numpy(_table(axis)).to(device) for axis in (grid.rows, grid.columns)]
    return Windows(
        shape=(*leading, p, q),
        sizes=(int(np.prod(leading)), h, w, p, q),
        rows=tables[0],
        columns=tables[1],
        filled=grid.filled,
        halving=halving,
        spans_rows=bool(spans_rows),
        whole=whole,
    )


def _table(axis: Axis) -> Array:
    return np.concatenate([axis.windows.reshape(-1), axis.covering.reshape(-1)])
