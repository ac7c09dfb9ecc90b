"""conv2d by Triton, as a matrix product that is never laid out; the kernel says how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.arrays import check_dimensions, flag
from kernels.conv2d.operator import Padding, Pair, form
from kernels.gpu.triton import MODES, TritonOperator, fitting
from kernels.gpu.triton_tiles import programs, tile

if TYPE_CHECKING:
    from torch import Tensor


class TritonConv2d(TritonOperator):
    """Two-dimensional cross-correlation of float32 tensors, contiguous or in channels-last memory.

    An input in channels-last memory has its output there too. Weights are brought into it, and in
    the mode bf16 into bfloat16, by one pass of torch's before the kernel; those of 1 x 1 and those
    that lie so are taken as they are. Many groups of few filters leave most of a tile empty.
    """

    modes = MODES

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
        """As the operator on arrays: see `kernels.conv2d.operator.Conv2d.forward`.

        Raises TypeError, ValueError, DeviceError.
        """
        relu = flag("relu", relu)
        x = self._tensor("input", input, channels_last=True)
        w = self._tensor("weight", weight, like=x, channels_last=True)
        b = None if bias is None else self._tensor("bias", bias, like=x)
        check_dimensions("input", x.shape, (3, 4))
        check_dimensions("weight", w.shape, (4,))
        if b is not None:
            check_dimensions("bias", b.shape, (1,))
        stride, before, _, dilation, groups, shape = form(
            tuple(x.shape), tuple(w.shape), None if b is None else tuple(b.shape),
            stride, padding, dilation, groups,
        )  # fmt: skip
        fitting("output", shape)
        images = x if x.dim() == 4 else x[None]
        if images.is_contiguous():
            y = images.new_empty(shape)
        else:
            n, filters, *size = shape
            y = images.new_empty((n, *size, filters)).permute(0, 3, 1, 2)
        if y.numel():
            self._run(images, w, b, y, (*stride, *before, *dilation), groups, relu)
        return y if x.dim() == 4 else y[0]

    def _run(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        y: Tensor,
        numbers: tuple[int, ...],
        groups: int,
        relu: bool,
    ) -> None:
        import torch

        from kernels.conv2d.triton_kernels import conv2d

        if self._mode == "bf16":
            weight = weight.to(torch.bfloat16, memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        n, filters, rows, columns = y.shape
        filters //= groups
        _, channels, *kernel = weight.shape
        pixels = n * rows * columns
        cut = tile(self._mode, pixels, filters, groups)
        self._device.launch(
            conv2d,
            programs(cut, pixels, filters, groups),
            x, weight, bias, y,
            pixels, rows, columns, *x.shape[2:], filters, channels,
            *numbers, x.stride(0), y.stride(0),
            groups=groups,
            kernel_height=kernel[0],
            kernel_width=kernel[1],
            channels_last=not x.is_contiguous(),
            few=channels if channels % cut.depth else 0,
            has_bias=bias is not None,
            relu=relu,
            mode=self._mode,
            block_pixels=cut.down,
            block_filters=cut.across,
            block_depth=cut.depth,
            warps=cut.warps,
            stages=cut.stages,
        )  # fmt: skip
