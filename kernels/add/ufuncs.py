"""add by NumPy's ufuncs, which repeat arguments in place; sums of gradients run in float64."""

from __future__ import annotations

import numpy as np

from kernels.add.operator import AddAlgorithm, Call, Fold
from kernels.arrays import Array


class Ufuncs(AddAlgorithm):
    """`np.add`, `np.multiply`, `np.sum` into the room that is given."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output`."""
        with np.errstate(all="ignore"):
            if call.alpha == 1:
                np.add(call.input, call.other, out=output)
                return
            np.multiply(call.other, output.dtype.type(call.alpha), out=output)
            np.add(call.input, output, out=output)

    def backward(self, fold: Fold, grad: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `grad`."""
        axes = tuple(i for i, size in enumerate(grad.shape) if size != fold.grad.shape[i])
        with np.errstate(all="ignore"):
            if axes:
                sums = fold.grad.sum(axis=axes, keepdims=True, dtype=np.float64)
                np.multiply(sums, fold.alpha, out=grad, casting="same_kind")
            else:
                np.multiply(fold.grad, grad.dtype.type(fold.alpha), out=grad)
