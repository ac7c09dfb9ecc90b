"""The gradients of weight and bias: sums over pixels.

    channels  tiles of filters x channels of one tap, over the pixels where that tap is inside
    points    few channels: tiles of a filter's numbers x filters, over rows with their zeros

Each task packs the pixels that it needs (`weight_tasks`). Chunks of pixels that sum apart depend on
shapes alone and are added in their order: threads change no bit.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.compiled import Kernel
from kernels.conv2d.operator import Call
from kernels.conv2d.plans import TASKS
from kernels.conv2d.weight_plans import Products, channel_products, point_products
from kernels.conv2d.weight_tasks import add_chunks, sum_chunk
from kernels.simd import Tile


def weight_gradient(
    tile: Tile, call: Call, x: Array, gy: Array, gw: Array, *, threaded: bool, threads: int | None
) -> None:
    """Fill contiguous `gw` [K, R, S, C / groups] from x [N, H, W, C] and gy [N, P, Q, K]."""
    filters, height, width, depth = gw.shape
    form = (
        tile, x.itemsize, x.shape, gy.shape, (height, width), call.stride, call.dilation,
        call.groups, call.before, call.after,
    )  # fmt: skip
    if call.groups == 1 and depth < tile.lanes(x.dtype):
        sums = np.empty((height, width, depth, filters), gw.dtype)
        _run(point_products(*form), tile, x, gy, sums, threaded, threads)
        gw[...] = sums.transpose(3, 0, 1, 2)
    else:
        _run(channel_products(*form), tile, gy, x, gw, threaded, threads)


def bias_gradient(gy: Array, gb: Array, *, threaded: bool, threads: int | None) -> None:
    """Fill `gb` [K] with the sums of contiguous gy [N, P, Q, K]."""
    pixels = gy.size // len(gb)
    stripes = max(1, min(TASKS, gy.size >> 14))
    sums = np.zeros((stripes, len(gb)))
    _BIAS(threaded, threads, stripes, gy.reshape(pixels, -1), sums)
    gb[...] = sums.sum(0)


def _run(
    products: Products, tile: Tile, a: Array, b: Array, sums: Array, threaded: bool,
    threads: int | None,
) -> None:  # fmt: skip
    chunks = len(products.blocks) - 1
    apart = sums.reshape(1, -1) if chunks == 1 else np.empty((chunks, sums.size), sums.dtype)
    _KERNEL(
        threaded, threads, chunks * len(products.parts), tile, tile.lanes(a.dtype), a.reshape(-1),
        b.reshape(-1), apart.reshape(-1), sums.reshape(-1), *products,
    )  # fmt: skip


def _kernel(
    tasks, tile, lanes, a, b, apart, sums,
    cells, taps, a_side, a_cuts, a_rows, b_side, b_cuts, b_rows, packed, points, bounds, blocks,
    parts, steps,
):  # fmt: skip
    size = len(sums)
    chunks = len(blocks) - 1
    for task in prange(tasks):
        sum_chunk(
            tile, lanes, task // len(parts), task % len(parts), a, b, apart, size,
            cells, taps, a_side, a_cuts, a_rows, b_side, b_cuts, b_rows, packed, points, bounds,
            blocks, parts, steps,
        )  # fmt: skip
    if chunks > 1:
        for i in prange(TASKS):
            begin, end = size * i // TASKS, size * (i + 1) // TASKS
            add_chunks(apart, size, chunks, begin, sums[begin:end])


def _bias_kernel(tasks, gy, sums):
    for task in prange(tasks):
        for m in range(len(gy) * task // tasks, len(gy) * (task + 1) // tasks):
            for k in range(gy.shape[1]):
                sums[task, k] += gy[m, k]


_KERNEL = Kernel(_kernel, chunk=1)  # whoever is free takes the next task
_BIAS = Kernel(_bias_kernel)
