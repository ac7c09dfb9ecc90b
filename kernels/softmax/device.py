"""softmax on a GPU, by softmax.cu or softmax.metal; how many threads share a position."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from kernels.gpu.operator import DeviceOperator, ceil_div
from kernels.softmax.operator import dim_of, folded_shape

if TYPE_CHECKING:
    from torch import Tensor

THREADS = 256
WARP = 32
FEW, MANY = 4, 16
"""Classes a thread has in registers: few for more threads, many before memory is read twice."""
BUSY = 1 << 15
"""Threads that keep a large GPU's memory busy."""


class DeviceSoftmax(DeviceOperator):
    """Along one dimension, exponentials that sum to one; contiguous float32 tensors."""

    source = "softmax/softmax"
    _log: ClassVar[int] = 0

    def forward(self, input: Tensor, dim: int) -> Tensor:  # noqa: A002 - torch's name
        """exp(input) / sum of exp(input) along `dim`, shaped as the input.

        Raises TypeError, ValueError, DeviceError, and IndexError for a dimension that is not there.
        """
        x = self._tensor("input", input)
        return self._forward(x, dim_of(tuple(x.shape), dim))

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        dim: int,
        *,
        output: Tensor | None = None,
    ) -> Tensor:
        """The gradient of the input, from that of the output.

        `output`: what `forward` returned for this input, so that it is not computed again. Raises
        as `forward` does, and ValueError for shapes that differ.
        """
        x = self._tensor("input", input)
        dim = dim_of(tuple(x.shape), dim)
        gy = self._like("grad_output", grad_output, x)
        y = self._forward(x, dim) if output is None else self._like("output", output, x)
        gx = x.new_empty(x.shape)
        if x.numel():
            self._over("softmax_backward", folded_shape(tuple(x.shape), dim), gy, y, gx)
        return gx

    def _forward(self, x: Tensor, dim: int) -> Tensor:
        y = x.new_empty(x.shape)
        if x.numel():
            self._over("softmax_forward", folded_shape(tuple(x.shape), dim), x, y)
        return y

    def _over(self, kernel: str, shape: tuple[int, int, int], *tensors: Tensor) -> None:
        bits, blocks = lanes_of(*shape)
        self._launch(kernel, blocks, THREADS, *tensors, *shape, bits, self._log)

    def _like(self, name: str, value: Tensor, x: Tensor) -> Tensor:
        tensor = self._tensor(name, value, like=x)
        if tensor.shape != x.shape:
            raise ValueError(
                f"{name} must have shape {tuple(x.shape)} as the input has, "
                f"got {tuple(tensor.shape)}"
            )
        return tensor


@functools.lru_cache(maxsize=512)
def lanes_of(outer: int, classes: int, inner: int) -> tuple[int, int]:
    """(b, blocks): 2^b threads share a position, and a block of THREADS has the others."""
    if inner == 1:
        lanes = min(_power(ceil_div(classes, FEW)), WARP)
        lanes = max(lanes, min(_power(ceil_div(classes, MANY)), THREADS))
    else:  # at most WARP, so that 8 positions, 32 bytes, lie side by side
        lanes = min(_power(ceil_div(classes, MANY)), WARP)
        while lanes < WARP and lanes * FEW < classes and outer * inner * lanes < BUSY:
            lanes *= 2
    return lanes.bit_length() - 1, ceil_div(outer * inner, THREADS // lanes)


def _power(count: int) -> int:
    """The least power of two that is not below."""
    return 1 << (count - 1).bit_length()
