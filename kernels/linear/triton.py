"""linear by Triton: a tiled matrix product."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kernels.gpu.operator import shadow
from kernels.gpu.triton import MODES, TritonOperator, fitting
from kernels.gpu.triton_tiles import programs, tile
from kernels.linear.operator import checked

if TYPE_CHECKING:
    from torch import Tensor


class TritonLinear(TritonOperator):
    """input times weight transposed, plus bias, on contiguous float32 tensors."""

    modes = MODES

    def forward(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        weight: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """As the operator on arrays: see `kernels.linear.operator.Linear.forward`.

        Raises TypeError, ValueError, DeviceError.
        """
        x = self._tensor("input", input)
        w = self._tensor("weight", weight, like=x)
        b = None if bias is None else self._tensor("bias", bias, like=x)
        checked(shadow(x), shadow(w), None if b is None else shadow(b))
        y = x.new_empty(fitting("output", x.shape[:-1] + w.shape[:-1]))
        if y.numel():
            self._run(x, w, b, y)
        return y

    def _run(self, x: Tensor, w: Tensor, b: Tensor | None, y: Tensor) -> None:
        from kernels.linear.triton_kernels import linear

        rows, columns, depth = math.prod(x.shape[:-1]), math.prod(w.shape[:-1]), x.shape[-1]
        cut = tile(self._mode, rows, columns)
        self._device.launch(
            linear,
            programs(cut, rows, columns, 1),
            x, w, b, y, rows, columns, depth,
            has_bias=b is not None,
            mode=self._mode,
            block_rows=cut.down,
            block_columns=cut.across,
            block_depth=cut.depth,
            warps=cut.warps,
            stages=cut.stages,
        )  # fmt: skip
