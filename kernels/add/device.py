"""add on a GPU, by add.cu or add.metal."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kernels.add.operator import broadcast, factor
from kernels.arrays import flags
from kernels.gpu.operator import DeviceOperator, ceil_div

if TYPE_CHECKING:
    from torch import Tensor

    from kernels.elementwise import Shape

THREADS, EACH, WARP = 256, 4, 32
MOST_WORKERS = 1 << 18
"""Threads that sums are shared out among: enough for all of a GPU."""
TERMS = 16
"""That a worker adds up at least."""
FLOAT = np.dtype(np.float32)


class DeviceAdd(DeviceOperator):
    """input + alpha other, the one repeated along the other's dimensions; float32, contiguous."""

    source = "add/add"

    def forward(self, input: Tensor, other: Tensor, *, alpha: float = 1) -> Tensor:  # noqa: A002
        """[...] and [...] -> [...], by torch's broadcasting; contiguous.

        Raises TypeError, ValueError, DeviceError.
        """
        a = self._tensor("input", input)
        b = self._tensor("other", other, like=a)
        by = factor(alpha, FLOAT)
        shape = broadcast(tuple(a.shape), tuple(b.shape))
        output = a.new_empty(shape)
        count = output.numel()
        if not count:
            return output
        if all(each.numel() in (1, count) for each in (a, b)):
            ones = (int(a.numel() != count), int(b.numel() != count))
            self._over(count, "add_forward", a, b, output, by, count, *ones)
        else:
            dims, rank = _both(shape, tuple(a.shape), tuple(b.shape), str(a.device))
            blocks = ceil_div(count, THREADS)
            self._launch("add_broadcast", blocks, THREADS, a, b, output, dims, by, count, rank)
        return output

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        other: Tensor,
        *,
        alpha: float = 1,
        needs: Sequence[bool] = (True, True),
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of input and other, from that of the output; None where not needed.

        A gradient that is equal to `grad_output` is `grad_output`. Raises as `forward` does.
        """
        a = self._tensor("input", input)
        b = self._tensor("other", other, like=a)
        by = factor(alpha, FLOAT)
        shape = broadcast(tuple(a.shape), tuple(b.shape))
        gy = self._tensor("grad_output", grad_output, like=a)
        if gy.shape != shape:
            raise ValueError(f"grad_output must have shape {shape}, got {tuple(gy.shape)}")
        wanted = flags("needs", needs, "input", "other")
        return (
            self._gradient(gy, tuple(a.shape), 1.0) if wanted[0] else None,
            self._gradient(gy, tuple(b.shape), by) if wanted[1] else None,
        )

    def _gradient(self, gy: Tensor, shape: Shape, alpha: float) -> Tensor:
        if gy.shape == shape and alpha == 1:
            return gy
        result = gy.new_empty(shape)
        count = result.numel()
        if not gy.numel():
            return result.zero_()
        if count == gy.numel():
            self._over(count, "add_scale", gy, result, alpha, count)
            return result
        fold = _fold(tuple(gy.shape), shape, str(gy.device))
        partial = result if fold.workers == 1 else gy.new_empty((count, fold.workers))
        self._launch(
            "add_fold",
            ceil_div(count * fold.workers, THREADS),
            THREADS,
            *(gy, partial, fold.dims, alpha, count, fold.terms, fold.workers, int(fold.along)),
            *(fold.kept, fold.rank),
        )
        if partial is not result:
            blocks = ceil_div(count * WARP, THREADS)
            self._launch("add_fold_finish", blocks, THREADS, partial, result, count, fold.workers)
        return result

    def _over(self, count: int, kernel: str, *arguments: Tensor | int | float) -> None:
        self._launch(kernel, ceil_div(count, THREADS * EACH), THREADS, *arguments)


class Fold(NamedTuple):
    """How a gradient is summed to a shape that broadcasts to its own."""

    dims: Tensor
    """int64 [2, rank]: sizes and strides, first of the `kept` dimensions, those that stay."""
    kept: int
    rank: int
    terms: int
    """Of each sum."""
    workers: int
    """Threads that share a sum."""
    along: bool
    """Whether neighbours in memory are terms of one sum."""


@functools.lru_cache(maxsize=256)
def _both(shape: Shape, a: Shape, b: Shape, device: str) -> tuple[Tensor, int]:
    """int64 [3, rank]: sizes of the result, and strides of a and b; and rank."""
    import torch

    dims = _merged(shape, _strides(a, shape), _strides(b, shape))
    return torch.tensor(dims, dtype=torch.int64).T.contiguous().to(device), len(dims)


@functools.lru_cache(maxsize=256)
def _fold(full: Shape, shape: Shape, device: str) -> Fold:
    import torch

    dims = _merged(full, _strides(full, full), _strides(shape, full))
    kept, folded = ([dim for dim in dims if (dim[2] == 0) == summed] for summed in (False, True))
    terms = math.prod(size for size, *_ in folded)
    sums = math.prod(size for size, *_ in kept)
    table = torch.tensor([dim[:2] for dim in (*kept, *folded)], dtype=torch.int64)
    return Fold(
        dims=table.T.contiguous().to(device),
        kept=len(kept),
        rank=len(dims),
        terms=terms,
        workers=max(1, min(ceil_div(terms, TERMS), MOST_WORKERS // sums)),
        along=dims[-1][2] == 0,
    )


def _strides(own: Shape, shape: Shape) -> list[int]:
    """Of a contiguous tensor that is repeated to `shape`: 0 along which it is."""
    full = (1,) * (len(shape) - len(own)) + own
    strides, step = [], 1
    for size, wanted in zip(reversed(full), reversed(shape), strict=True):
        strides.append(step if size == wanted else 0)
        step *= size
    return strides[::-1]


def _merged(shape: Shape, *strides: Sequence[int]) -> list[list[int]]:
    """[size, stride, stride...] for each dimension, neighbours made one where they lie as one."""
    dims: list[list[int]] = []
    for size, *steps in zip(shape, *strides, strict=True):
        if size == 1:
            continue
        if dims and dims[-1][1:] == [step * size for step in steps]:
            dims[-1] = [dims[-1][0] * size, *steps]
        else:
            dims.append([size, *steps])
    return dims
