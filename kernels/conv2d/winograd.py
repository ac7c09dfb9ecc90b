"""Winograd's convolution F(2x2, 3x3): 16 products for 2 x 2 outputs where the definition takes 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. 3 x 3 kernels with
stride 1, dilation 1 and one group; any padding. The gradients are of the same kind: the input's is
such a convolution of the output's with turned weights, the weight's the transposed algorithm.

Sums run in another order than the definition's, over differences and halves of the numbers. On
small integers they are exact all the same. A NaN or an infinity makes every output of the tiles
that read it NaN or infinite, up to two rows and columns further than the definition does, and
where the definition has an infinity there may be a NaN; a tile whose 4 x 4 pixels and whose weights
are finite stays as it is.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import DTypeLike

from kernels.arrays import Array, nhwc
from kernels.conv2d.operator import Call, Gradients
from kernels.conv2d.winograd_blocks import (
    STRIP,
    convolve_blocks,
    correlate_blocks,
    make_layout,
    make_shape,
)
from kernels.conv2d.winograd_transforms import PLANES
from kernels.simd import Tile, aligned_empty, host_tile
from kernels.threads import numba_threads

BLOCK_BYTES = 1 << 19
"""How large a block of transformed pixels may be, so that a core's second cache keeps it."""
DEPTH = 128
SPAN_BYTES = 1 << 24
"""The same for all blocks between which the weight's gradient waits for all threads."""


class Winograd:
    """conv2d by F(2x2, 3x3)."""

    threaded = True

    def __init__(self, tile: Tile | None = None, block_bytes: int = BLOCK_BYTES) -> None:
        self._tile = tile
        self._block_bytes = block_bytes

    def unavailable_reason(self) -> str | None:
        """None: LLVM compiles the transforms for any CPU."""
        return None

    def unsupported(self, call: Call) -> str | None:
        """Why it does not do this call, or None."""
        kernel = call.weight.shape[2:]
        for name, allowed, given in (
            ("a 3 x 3 kernel", (3, 3), kernel),
            ("stride 1", (1, 1), call.stride),
            ("dilation 1", (1, 1), call.dilation),
            ("groups 1", 1, call.groups),
        ):
            if given != allowed:
                return f"winograd is for {name}, got {given}"
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
            nhwc(grad_output).reshape(-1, grads.bias.size).sum(axis=0, out=grads.bias)

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
        """Fill `output` from `images`; `turned` swaps the weight's filters and channels, too."""
        tile, dtype = self._tile or host_tile(), output.dtype
        shape = make_shape(tile, images, output, before, self._block_bytes, DEPTH)
        x = _whole_vectors(images, shape.x_channels)
        last = output.transpose(0, 2, 3, 1)
        direct = last.flags.c_contiguous and shape.filters == shape.y_channels
        y = last if direct else np.empty((*last.shape[:3], shape.y_channels), dtype)
        start = np.zeros(shape.panels * shape.panel, dtype)
        if bias is not None:
            start[: bias.size] = bias
        by_panels = shape.tiles < shape.filters
        with numba_threads(threads) as workers:
            v, u, m, g = _rooms(
                dtype,
                (shape.blocks if by_panels else workers, PLANES * shape.v_plane),
                (workers if by_panels else shape.panels, PLANES * shape.u_plane),
                (workers, shape.blocks if by_panels else 1, PLANES * shape.m_plane),
                (workers, (STRIP + 1) * 9 * shape.lanes**2),
            )
            convolve_blocks(
                tile, shape, x.reshape(-1), *make_layout(weight, shape.lanes), turned, start,
                y.reshape(-1), v, u, m, g, by_panels, workers,
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
        shape = make_shape(tile, images, grad_output, before, self._block_bytes, DEPTH)
        x = _whole_vectors(images, shape.x_channels)
        dy = _whole_vectors(grad_output, shape.y_channels)
        whole = (shape.y_channels, shape.x_channels, 3, 3)
        dw = grad_weight if grad_weight.shape == whole else np.empty(whole, dtype)
        block = PLANES * (shape.v_plane + shape.panels * shape.m_plane)
        span = min(shape.blocks, max(1, SPAN_BYTES // (block * dtype.itemsize)))
        with numba_threads(threads) as workers:
            v, d, du, g = _rooms(
                dtype,
                (span, PLANES * shape.v_plane),
                (span, shape.panels, PLANES * shape.m_plane),
                (shape.panels, PLANES * shape.du_plane),
                (workers, 9 * shape.lanes**2),
            )
            du.fill(0)
            correlate_blocks(
                tile, shape, x.reshape(-1), dy.reshape(-1), *make_layout(dw, shape.lanes), span,
                v, d, du, g, workers,
            )  # fmt: skip
        if dw is not grad_weight:
            grad_weight[...] = dw[: shape.filters, : shape.channels]


def _whole_vectors(images: Array, channels: int) -> Array:
    """[N, C, H, W] -> C-contiguous [N, H, W, channels], zero behind the last; a view if it can be."""
    n, given, height, width = images.shape
    if given == channels:
        return nhwc(images)
    padded = np.zeros((n, height, width, channels), images.dtype)
    padded[..., :given] = images.transpose(0, 2, 3, 1)
    return padded


def _rooms(dtype: DTypeLike, *shapes: tuple[int, ...]) -> list[Array]:
    """Uninitialised arrays out of one allocation, which the C library keeps for the next call."""
    sizes = [math.prod(shape) for shape in shapes]
    room = aligned_empty(sum(sizes), dtype)
    ends = itertools.accumulate(sizes)
    return [
        room[end - size : end].reshape(shape)
        for shape, size, end in zip(shapes, sizes, ends, strict=True)
    ]
