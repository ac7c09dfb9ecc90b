"""Winograd's convolution F(2x2, 3x3): 16 products for 2 x 2 outputs where the definition takes 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. 3 x 3 kernels with
stride 1, dilation 1 and one group; any padding. Its gradients are of the same kind: the input's is
such a convolution of the output's, with turned weights, the weight's the transposed algorithm.

Sums run over differences and halves of the numbers, in another order than the definition's; on
small integers they are exact all the same. Tiles of 2 x 2 outputs start at even rows and columns,
each of 4 x 4 pixels. A NaN or an infinity among these, or in a filter, may reach all outputs of the
tile, or of the filter, and be NaN where the definition has an infinity. What the definition makes
NaN or infinite is one of both here, and tiles and filters without any keep their numbers. Sums of a
few numbers are formed before they are multiplied: those near the largest float overflow earlier.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import DTypeLike

from kernels.arrays import Array, nhwc
from kernels.conv2d.operator import Call, Conv2dAlgorithm, Gradients
from kernels.conv2d.winograd_blocks import convolve_blocks, correlate_blocks
from kernels.conv2d.winograd_shape import make_layout, make_shape
from kernels.simd import Tile, aligned_empty, host_tile
from kernels.threads import check_threads

BLOCK_BYTES = 1 << 18
"""How large a block of transformed pixels is: with its products it stays in a core's L2 cache."""
DEPTH = 128
"""How many channels of a panel's weights are transformed at a time: they, too, stay there."""
SPAN_BYTES = 1 << 24
"""How much of the blocks the weight's gradient keeps before all threads wait for each other."""


class Winograd(Conv2dAlgorithm):
    """conv2d by F(2x2, 3x3); other sizes of blocks than the defaults are for tests."""

    threaded = True

    def __init__(
        self,
        tile: Tile | None = None,
        block_bytes: int = BLOCK_BYTES,
        depth: int = DEPTH,
        span_bytes: int = SPAN_BYTES,
    ) -> None:
        self._tile = tile
        self._sizes = block_bytes, depth
        self._span_bytes = span_bytes

    def unsupported(self, call: Call) -> str | None:
        """Why it does not do this call, or None."""
        kernel = call.weight.shape[2:]
        if kernel != (3, 3):
            return f"winograd does 3 x 3 kernels alone, got {kernel[0]} x {kernel[1]}"
        if call.stride != (1, 1):
            return f"winograd does stride 1 alone, got {call.stride}"
        if call.dilation != (1, 1):
            return f"winograd does dilation 1 alone, got {call.dilation}"
        if call.groups != 1:
            return f"winograd does one group alone, got {call.groups}"
        return None

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, K, P, Q]."""
        self._convolve(call.input, call.weight, call.bias, call.before, output, threads)

    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> None:
        """Fill the gradients, from the output's [N, K, P, Q]."""
        if grads.input is not None:
            before = 2 - call.before[0], 2 - call.before[1]
            self._convolve(
                grad_output, call.weight, None, before, grads.input, threads, turned=True
            )
        if grads.weight is not None:
            self._correlate(call.input, grad_output, call.before, grads.weight, threads)
        if grads.bias is not None:
            grad_output.sum(axis=(0, 2, 3), out=grads.bias)

    def _convolve(
        self,
        images: Array,
        weight: Array,
        bias: Array | None,
        before: tuple[int, int],
        output: Array,
        threads: int | None,
        *,
        turned: bool = False,
    ) -> None:
        """Fill `output`; `turned` turns the weight by 180 degrees and swaps its K and C.

        `before` zeros are above and to the left; a negative number is so much cut off.
        """
        tile, dtype = self._tile or host_tile(), output.dtype
        shape = make_shape(tile, images, output, before, *self._sizes)
        x = _whole_vectors(images, shape.x_channels)
        last = output.transpose(0, 2, 3, 1)
        direct = last.flags.c_contiguous and shape.filters == shape.y_channels
        y = last if direct else np.empty((*last.shape[:3], shape.y_channels), dtype)
        start = np.zeros(shape.panels * shape.panel, dtype)
        if bias is not None:
            start[: bias.size] = bias
        workers = check_threads(threads)
        v, u, m, g = _rooms(
            dtype,
            shape.v_size * (shape.blocks if shape.by_panels else workers),
            shape.u_size * (workers if shape.by_panels else shape.panels),
            shape.m_size * (shape.blocks if shape.by_panels else 1) * workers,
            shape.g_size * workers,
        )
        convolve_blocks(
            True, workers, workers, tile, shape, x.reshape(-1), *make_layout(weight, shape.lanes),
            turned, start, y.reshape(-1), v, u, m, g,
        )  # fmt: skip
        if not direct:
            last[...] = y[..., : shape.filters]

    def _correlate(
        self,
        images: Array,
        grad_output: Array,
        before: tuple[int, int],
        grad_weight: Array,
        threads: int | None,
    ) -> None:
        """Fill `grad_weight` [K, C, 3, 3]."""
        tile, dtype = self._tile or host_tile(), grad_weight.dtype
        shape = make_shape(tile, images, grad_output, before, *self._sizes)
        x = _whole_vectors(images, shape.x_channels)
        dy = _whole_vectors(grad_output, shape.y_channels)
        whole = (shape.y_channels, shape.x_channels, 3, 3)
        dw = grad_weight if grad_weight.shape == whole else np.empty(whole, dtype)
        block = shape.v_size + shape.panels * shape.m_size
        span = min(shape.blocks, max(1, self._span_bytes // (block * dtype.itemsize)))
        workers = check_threads(threads)
        v, d, du, g = _rooms(
            dtype,
            shape.v_size * span,
            shape.m_size * span * shape.panels,
            shape.du_size * shape.panels,
            shape.g_size * workers,
        )
        du.fill(0)
        correlate_blocks(
            True, workers, workers, tile, shape, x.reshape(-1), dy.reshape(-1),
            *make_layout(dw, shape.lanes), span, v, d, du, g,
        )  # fmt: skip
        if dw is not grad_weight:
            grad_weight[...] = dw[: shape.filters, : shape.channels]


def _whole_vectors(images: Array, channels: int) -> Array:
    """[N, C, H, W] -> C-contiguous [N, H, W, channels], zero behind the last; not always a copy."""
    n, given, height, width = images.shape
    if given == channels:
        return nhwc(images)
    padded = np.zeros((n, height, width, channels), images.dtype)
    padded[..., :given] = images.transpose(0, 2, 3, 1)
    return padded


def _rooms(dtype: DTypeLike, *sizes: int) -> list[Array]:
    """Uninitialised arrays out of one allocation, which the C library keeps for the next call."""
    room = aligned_empty(sum(sizes), dtype)
    ends = itertools.accumulate(sizes)
    return [room[end - size : end] for size, end in zip(sizes, ends, strict=True)]
