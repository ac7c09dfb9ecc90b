"""cross_entropy by Triton."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kernels.cross_entropy.operator import Call, checked, output_shape
from kernels.gpu.operator import ceil_div, shadow
from kernels.gpu.triton import TritonOperator, fitting
from kernels.softmax.triton import cut

if TYPE_CHECKING:
    from torch import Tensor


class TritonCrossEntropy(TritonOperator):
    """log_softmax over the classes, and the negative log likelihood of the target.

    On contiguous float32 tensors; labels are int64 or uint8. What they are cannot be asked without
    waiting for the device: a label that is neither a class nor `ignore_index` gives NaN.
    """

    def forward(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        target: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """As the operator on arrays: see `kernels.cross_entropy.operator.CrossEntropy.forward`.

        Raises TypeError, ValueError, DeviceError; no IndexError.
        """
        x = self._tensor("input", input)
        w = None if weight is None else self._tensor("weight", weight, like=x)
        dtype = str(getattr(target, "dtype", None)).removeprefix("torch.")
        t = self._tensor("target", target, like=x, dtype=dtype if hasattr(np, dtype) else "float32")
        call = checked(
            shadow(x), shadow(t), None if w is None else shadow(w),
            ignore_index, reduction, label_smoothing,
        )  # fmt: skip
        y = x.new_empty(output_shape(call))
        fitting("input", x.shape)
        if x.numel() or (call.labelled and t.numel()):
            self._run(x, t, w, y, call)
        else:
            y.fill_(float("nan") if reduction == "mean" else 0.0)
        return y

    def _run(self, x: Tensor, target: Tensor, weight: Tensor | None, y: Tensor, call: Call) -> None:
        from kernels.cross_entropy.triton_kernels import cross_entropy, reduced

        n, classes, inner = call.shape
        part = cut(classes, inner)
        programs = ceil_div(n * inner, part.positions)
        adds = call.reduction != "none" and programs > 1
        sums = x.new_empty((programs, 2)) if adds else y
        self._device.launch(
            cross_entropy,
            programs,
            x, target, weight, sums, n * inner, classes, inner,
            call.ignore_index, call.label_smoothing,
            labelled=call.labelled,
            weighted=weight is not None,
            smoothed=call.label_smoothing > 0,
            reduction=call.reduction,
            alone=programs == 1,
            block_classes=part.classes,
            block_positions=part.positions,
            warps=part.warps,
        )  # fmt: skip
        if adds:
            self._device.launch(reduced, 1, sums, y, programs, reduction=call.reduction)
