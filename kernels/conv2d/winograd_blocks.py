"""Winograd's convolution block by block, for Numba: what is transformed when, and by whom.

A block's pixels become `PLANES` matrices V [tile, channel], a panel's weights as many matrices U
[channel, filter]; their products M [tile, filter] become outputs while a cache still holds them.

    tasks are blocks  all of U is made first; each task makes its block's V
    tasks are panels  all of V is made first; each task makes its panel's U, some channels at a time

so that the larger of both goes through a core's cache once. Tasks are dealt out to `workers`, each
with scratch memory of its own; no sum depends on the number of these, or on how blocks are cut.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from kernels.compiled import Kernel
from kernels.conv2d.winograd_shape import PLANES
from kernels.conv2d.winograd_steps import (
    add_products,
    make_gradient,
    make_input,
    make_output,
    make_weight_gradient,
    make_weights,
    multiply,
)

PIECE = 8
"""How many tiles of a block one task transforms where blocks are few."""


def _convolve_source(
    workers, tile, shape, x, weight, layout, orders, turned, bias, y, v, u, m, g
):  # fmt: skip
    """Fill y [N, P, Q, y_channels] from x [N, H, W, x_channels], both flat.

    v, u, m, g: room for V (each worker's, or each block's), for U (each panel's, or each worker's),
    for M and for weights on their way (each worker's), all flat.
    """
    pieces = -(-shape.size // PIECE)
    tasks = shape.blocks * pieces if shape.by_panels else shape.panels
    for index in prange(workers):
        worker = np.int64(index)
        g_at = worker * shape.g_size
        for task in range(worker, tasks, workers):
            if shape.by_panels:
                block, piece = divmod(task, pieces)
                make_input(tile, shape, x, block, piece * PIECE, PIECE, v, block * shape.v_size)
            else:
                u_at = task * shape.u_size
                make_weights(tile, shape, weight, layout, orders, turned, task, 0, u, u_at, g, g_at)
    for index in prange(workers):
        worker = np.int64(index)
        g_at = worker * shape.g_size
        for task in range(worker, shape.panels if shape.by_panels else shape.blocks, workers):
            if shape.by_panels:
                first_panel, panels, first, blocks = task, 1, 0, shape.blocks
                v_at, m_at = 0, worker * shape.blocks * shape.m_size
            else:
                first_panel, panels, first, blocks = 0, shape.panels, task, 1
                v_at, m_at = worker * shape.v_size, worker * shape.m_size
                make_input(tile, shape, x, task, 0, shape.size, v, v_at)
            for panel in range(first_panel, first_panel + panels):
                u_at = (worker if shape.by_panels else panel) * shape.u_size
                for c in range(0, shape.channels, shape.depth):
                    if shape.by_panels:
                        make_weights(
                            tile, shape, weight, layout, orders, turned, panel, c, u, u_at, g, g_at
                        )
                    following = shape.panels, 0
                    if shape.ahead and not turned:
                        last = c + shape.depth >= shape.channels
                        following = (panel + workers, 0) if last else (panel, c + shape.depth)
                    multiply(
                        tile, shape, v, v_at, c, u, u_at, first, blocks, m, m_at,
                        weight, layout, following,
                    )  # fmt: skip
                for i in range(blocks):
                    make_output(tile, shape, m, m_at + i * shape.m_size, bias, first + i, panel, y)


def _correlate_source(workers, tile, shape, x, dy, dw, layout, orders, span, v, d, du, g):
    """Fill the weight's gradient dw from x [N, H, W, x_channels] and dy [N, P, Q, y_channels].

    All flat, and dw in whole vectors. v and d: room for V and for the output's gradient, `span`
    blocks of each; du: for all panels of the gradient of U, set to zero; g: a worker's weights.
    """
    for begin in range(0, shape.blocks, span):
        count = min(span, shape.blocks - begin)
        for index in prange(workers):
            worker = np.int64(index)
            for task in range(worker, count, workers):
                make_input(tile, shape, x, begin + task, 0, shape.size, v, task * shape.v_size)
                for panel in range(shape.panels):
                    d_at = (task * shape.panels + panel) * shape.m_size
                    make_gradient(tile, shape, dy, begin + task, panel, d, d_at)
        for index in prange(workers):
            worker = np.int64(index)
            for task in range(worker, shape.panels * PLANES, workers):
                panel, plane = divmod(task, PLANES)
                for i in range(count):
                    d_at = (i * shape.panels + panel) * shape.m_size
                    add_products(
                        tile, shape, v, i * shape.v_size, d, d_at, begin + i, plane,
                        du, panel * shape.du_size,
                    )  # fmt: skip
    for index in prange(workers):
        worker = np.int64(index)
        for panel in range(worker, shape.panels, workers):
            du_at, g_at = panel * shape.du_size, worker * shape.g_size
            make_weight_gradient(tile, shape, du, du_at, panel, dw, layout, orders, g, g_at)


convolve_blocks = Kernel(_convolve_source)
correlate_blocks = Kernel(_correlate_source)
