"""conv2d on a GPU, by conv2d.cu and conv2d_weight.cu, or the same in Metal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernels.arrays import check_dimensions, flag, flags
from kernels.conv2d import device_plans
from kernels.conv2d.device_plans import Plan, Sizes
from kernels.conv2d.operator import Padding, Pair, form
from kernels.gpu.device import MOST_ELEMENTS
from kernels.gpu.operator import DeviceOperator, ceil_div

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT = "conv2d/conv2d_weight"
THREADS = 256
SLICE = 8192
"""Positions that a block adds up for the gradient of the bias, at least."""
MOST_SLICES = 64


class DeviceConv2d(DeviceOperator):
    """Two-dimensional cross-correlation of contiguous float32 tensors."""

    source = "conv2d/conv2d"
    more_sources = (WEIGHT,)

    def forward(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        *,
        relu: bool = False,
    ) -> Tensor:
        """[N, C, H, W] or [C, H, W] -> [N, K, P, Q] or [K, P, Q]; weight [K, C / groups, R, S].

        As `kernels.conv2d.operator.Conv2d.forward`. Raises TypeError, ValueError, DeviceError.
        """
        relu = flag("relu", relu)
        x, weight, bias, sizes, shape = self._checked(
            input, weight, bias, stride, padding, dilation, groups
        )
        output = x.new_empty(shape)
        if output.numel():
            plan = device_plans.forward(sizes, self._device.ending, x.device)
            self._gather("conv2d_forward", plan, x, weight, bias, output, sizes.p * sizes.q, relu)
        return output

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        *,
        needs: Sequence[bool] = (True, True, True),
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of input, weight and bias, from that of the output.

        None for those that `needs` leaves out, and for a bias that is not there. Raises as
        `forward` does.
        """
        x, weight, bias, sizes, shape = self._checked(
            input, weight, bias, stride, padding, dilation, groups
        )
        gy = self._tensor("grad_output", grad_output, like=x)
        if tuple(gy.shape) != shape:
            raise ValueError(f"grad_output must have shape {shape}, got {tuple(gy.shape)}")
        needs = flags("needs", needs, "input", "weight", "bias")
        wanted = (
            x if needs[0] else None,
            weight if needs[1] else None,
            bias if needs[2] else None,
        )
        gx, gw, gb = (None if each is None else each.new_empty(each.shape) for each in wanted)
        if not gy.numel():
            gx, gw, gb = (None if each is None else each.zero_() for each in (gx, gw, gb))
            return gx, gw, gb
        if gx is not None:
            plan = device_plans.grad_input(sizes, self._device.ending, x.device)
            plane = sizes.h * sizes.w
            self._gather("conv2d_grad_input", plan, gy, weight, None, gx, plane, False)
        if gw is not None:
            self._weight(sizes, gy, x, gw)
        if gb is not None:
            self._bias(sizes, gy, gb)
        return gx, gw, gb

    def _checked(
        self,
        given: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        groups: int,
    ) -> tuple[Tensor, Tensor, Tensor | None, Sizes, tuple[int, ...]]:
        """The tensors, what the kernels are told, and the output's shape."""
        x = self._tensor("input", given)
        check_dimensions("input", tuple(x.shape), (3, 4))
        weight = self._tensor("weight", weight, like=x)
        check_dimensions("weight", tuple(weight.shape), (4,))
        if bias is not None:
            bias = self._tensor("bias", bias, like=x)
            check_dimensions("bias", tuple(bias.shape), (1,))
        size, filters = tuple(x.shape), tuple(weight.shape)
        strides, before, _, dilations, groups, shape = form(
            size,
            filters,
            None if bias is None else tuple(bias.shape),
            stride,
            padding,
            dilation,
            groups,
        )
        sizes = Sizes(
            shape[0], *size[-3:], filters[0], *filters[2:], *shape[2:],
            *strides, *before, *dilations, groups,
        )  # fmt: skip
        if max(sizes) > MOST_ELEMENTS or math.prod(shape) > MOST_ELEMENTS:
            raise ValueError(
                f"stride, padding, dilation and the output's number of elements must be at most "
                f"{MOST_ELEMENTS}, got {strides}, {before}, {dilations} and output {shape}"
            )
        return x, weight, bias, sizes, shape if len(size) == 4 else shape[1:]

    def _gather(
        self,
        kernel: str,
        plan: Plan,
        source: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        out: Tensor,
        plane: int,
        relu: bool,
    ) -> None:
        """One of the two products that are alike; `plane` elements of `out` have one bias."""
        splits = 1 if self._sequential else plan.splits
        name = kernel if self._sequential else f"conv2d_gather_{plan.tile.rows}"
        plus = weight if bias is None else bias
        end = (int(bias is not None), int(relu))
        parts = out if splits == 1 else out.new_empty((splits, out.numel()))
        tables = (plan.shape, plan.product, plan.taps)
        self._launch(
            name, plan.blocks, plan.tile.threads,
            source, weight, plus, parts, *tables, *(end if splits == 1 else (0, 0)), splits,
            plan.tiles,
        )  # fmt: skip
        if splits > 1:
            self._sum(parts, plus, out, splits, plane, *end)

    def _weight(self, sizes: Sizes, gy: Tensor, x: Tensor, gw: Tensor) -> None:
        plan = device_plans.grad_weight(sizes, self._device.ending, x.device)
        splits = 1 if self._sequential else plan.splits
        name = "conv2d_grad_weight" if self._sequential else f"conv2d_weight_{plan.tile.rows}"
        parts = gw if splits == 1 else gw.new_empty((splits, gw.numel()))
        self._launch(
            name, plan.blocks, plan.tile.threads,
            gy, x, parts, plan.shape, plan.taps, splits, source=WEIGHT,
        )  # fmt: skip
        if splits > 1:
            self._sum(parts, gw, gw, splits)

    def _bias(self, sizes: Sizes, gy: Tensor, gb: Tensor) -> None:
        plan = device_plans.grad_weight(sizes, self._device.ending, gy.device)
        slices = min(MOST_SLICES, ceil_div(gy.numel() // sizes.k, SLICE))
        slices = 1 if self._sequential else slices
        parts = gb if slices == 1 else gb.new_empty((slices, sizes.k))
        self._launch(
            "conv2d_grad_bias", sizes.k * slices, THREADS,
            gy, parts, plan.shape, slices, source=WEIGHT,
        )  # fmt: skip
        if slices > 1:
            self._sum(parts, gb, gb, slices)

    def _sum(
        self,
        parts: Tensor,
        bias: Tensor,
        out: Tensor,
        splits: int,
        plane: int = 1,
        has_bias: int = 0,
        relu: int = 0,
    ) -> None:
        count, channels = out.numel(), bias.numel()
        self._launch(
            "conv2d_sum", ceil_div(count, 32), THREADS,
            parts, bias, out, count, splits, plane, channels, has_bias, relu,
        )  # fmt: skip
