"""softmax and log_softmax by Triton."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kernels.gpu.operator import ceil_div, shadow
from kernels.gpu.triton import TritonOperator, fitting
from kernels.softmax.operator import _call

if TYPE_CHECKING:
    from torch import Tensor

ELEMENTS = 2048
"""A program's, where the classes leave a choice: 16 for each of 128 threads."""
MOST = 8192
"""That stay in the registers of a program."""
NEIGHBOURS = 32
"""Positions that a warp reads at once where classes are no neighbours in memory."""


class Cut(NamedTuple):
    """What a program takes."""

    classes: int
    positions: int
    warps: int


class TritonSoftmax(TritonOperator):
    """Along one dimension, exponentials that sum to one, of a contiguous float32 tensor."""

    log: ClassVar[bool] = False

    def forward(self, input: Tensor, dim: int) -> Tensor:  # noqa: A002 - torch's name
        """As the operator on arrays: see `kernels.softmax.operator.Softmax.forward`.

        Raises TypeError, ValueError, IndexError, DeviceError.
        """
        x = self._tensor("input", input)
        outer, classes, inner = _call(shadow(x), dim).shape
        y = x.new_empty(fitting("input", x.shape))
        if y.numel():
            self._run(x, y, outer * inner, classes, inner)
        return y

    def _run(self, x: Tensor, y: Tensor, positions: int, classes: int, inner: int) -> None:
        from kernels.softmax.triton_kernels import softmax

        part = cut(classes, inner)
        self._device.launch(
            softmax,
            ceil_div(positions, part.positions),
            x, y, positions, classes, inner,
            log=self.log,
            whole=classes <= part.classes,
            block_classes=part.classes,
            block_positions=part.positions,
            warps=part.warps,
        )  # fmt: skip


@functools.lru_cache(maxsize=256)
def cut(classes: int, inner: int) -> Cut:
    """How many classes and positions a program takes at a time; both are powers of two."""
    neighbours = 1 if inner == 1 else NEIGHBOURS
    wide = 1 << max(classes - 1, 0).bit_length()
    taken = wide if wide * neighbours <= MOST else ELEMENTS // neighbours
    positions = max(neighbours, ELEMENTS // taken)
    return Cut(taken, positions, 8 if taken * positions > ELEMENTS else 4)
