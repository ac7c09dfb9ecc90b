"""The fast convolution: direct, over channels-last memory, with tiles of sums kept in registers.

    numba          one thread
    numba_threads  the same tasks over `prange`

The input's gradient is a convolution too, of the output's gradient with the weights turned round;
where the convolution was strided, one for each phase of the input, all in one run. Tiles:
`kernels.simd`; without them: depthwise.
"""

from __future__ import annotations

import functools
from itertools import product

import numpy as np
from numba import prange

from kernels.arrays import Array, nhwc
from kernels.compiled import Kernel
from kernels.conv2d import depthwise
from kernels.conv2d.blocked import convolve
from kernels.conv2d.operator import Call, Conv2dAlgorithm, Gradients
from kernels.conv2d.plans import Axis, make_plan
from kernels.conv2d.weight_gradient import bias_gradient, weight_gradient
from kernels.conv2d.work import Work, join
from kernels.simd import Tile, host_tile

TURNED = 256
"""How many pixels are turned into contiguous memory at a time."""


class Direct(Conv2dAlgorithm):
    """conv2d by tiles of pixels and filters; `tile` is the host's unless it is given."""

    fuses_relu = True

    def __init__(self, *, threaded: bool, tile: Tile | None = None) -> None:
        self.threaded = threaded
        self._tile = tile

    def forward(self, call: Call, output: Array, threads: int | None) -> None:
        """Fill `output` [N, K, P, Q]."""
        y = output.transpose(0, 2, 3, 1)
        target = y if y.flags.c_contiguous else np.empty(y.shape, y.dtype)
        _forward(self._tile or host_tile(), call, target, threaded=self.threaded, threads=threads)
        if target is not y:
            _turn(target, output, threaded=self.threaded, threads=threads)

    def backward(
        self, call: Call, grad_output: Array, grads: Gradients, threads: int | None
    ) -> None:
        """Fill the gradients that are wanted, from the output's [N, K, P, Q]."""
        tile = self._tile or host_tile()
        run = {"threaded": self.threaded, "threads": threads}
        gy = nhwc(grad_output)
        if grads.input is not None:
            gx = grads.input.transpose(0, 2, 3, 1)
            target = gx if gx.flags.c_contiguous else np.empty(gx.shape, gx.dtype)
            if depthwise.fits(call):
                depthwise.input_gradient(call, gy, target, **run)
            else:
                _input_gradient(tile, call, gy, target, **run)
            if target is not gx:
                _turn(target, grads.input, **run)
        if grads.weight is not None:
            gw = grads.weight.transpose(0, 2, 3, 1)
            target = gw if gw.flags.c_contiguous else np.empty(gw.shape, gw.dtype)
            if depthwise.fits(call):
                depthwise.weight_gradient(call, nhwc(call.input), gy, target, **run)
            else:
                weight_gradient(tile, call, nhwc(call.input), gy, target, **run)
            if target is not gw:
                gw[...] = target
        if grads.bias is not None:
            bias_gradient(gy, grads.bias, **run)


def _forward(tile: Tile, call: Call, y: Array, *, threaded: bool, threads: int | None) -> None:
    """Fill contiguous `y` [N, P, Q, K]."""
    x = nhwc(call.input)
    if depthwise.fits(call):
        depthwise.forward(call, x, y, threaded=threaded, threads=threads)
        if call.relu:
            np.maximum(y, 0, out=y)
        return
    last = call.weight.transpose(0, 2, 3, 1)
    channels_last = last.flags.c_contiguous
    weight = last if channels_last else np.ascontiguousarray(call.weight)
    work = _forward_work(
        tile, x.itemsize, x.shape, call.weight.shape, channels_last, call.shape, call.stride,
        call.before, call.dilation, call.groups,
    )  # fmt: skip
    convolve(
        tile, work, x.reshape(-1), weight.reshape(-1), call.bias, y.reshape(-1),
        threaded=threaded, threads=threads, relu=call.relu,
    )  # fmt: skip


def _input_gradient(
    tile: Tile, call: Call, gy: Array, gx: Array, *, threaded: bool, threads: int | None
) -> None:
    work, whole = _gradient_work(
        tile, gy.itemsize, gy.shape, gx.shape, call.weight.shape, call.stride, call.before,
        call.dilation, call.groups,
    )  # fmt: skip
    if not whole:
        lines = gx.shape[0] * gx.shape[1]
        _ZEROS(threaded, threads, lines, gx.reshape(lines, -1))
    if work is None:
        return
    convolve(
        tile, work, gy.reshape(-1), nhwc(call.weight).reshape(-1), None, gx.reshape(-1),
        threaded=threaded, threads=threads,
    )  # fmt: skip


def _turn(source: Array, target: Array, *, threaded: bool, threads: int | None) -> None:
    """[N, H, W, C] -> [N, C, H, W], both contiguous."""
    n, height, width, channels = source.shape
    pixels = height * width
    parts = -(-pixels // TURNED)
    _TURN(
        threaded, threads, n * parts, source.reshape(n, pixels, channels),
        target.reshape(n, channels, pixels), parts,
    )  # fmt: skip


def _turned(tasks, source, target, parts):
    for task in prange(tasks):
        n, begin = task // parts, task % parts * TURNED
        pixels = source[n, begin : begin + TURNED]
        for c in range(source.shape[2]):
            line = target[n, c, begin : begin + TURNED]
            for i in range(len(line)):
                line[i] = pixels[i, c]


_TURN = Kernel(_turned)


def _zeros(tasks, rows):
    for task in prange(tasks):
        rows[task] = 0


_ZEROS = Kernel(_zeros)


@functools.lru_cache(maxsize=256)
def _forward_work(
    tile: Tile,
    itemsize: int,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    channels_last: bool,
    y: tuple[int, ...],
    stride: tuple[int, int],
    before: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Work:
    n, *size, channels = x
    filters = weight[0]
    down, across = (
        Axis(
            size[i],
            y[2 + i],
            stride[i],
            tuple(r * dilation[i] - before[i] for r in range(weight[2 + i])),
        )
        for i in (0, 1)
    )
    steps = (y[2] * y[3] * filters, y[3] * filters, filters)
    plan = make_plan(tile, itemsize, n, channels, groups, filters, down, across, steps)
    return join([(plan, _rows(weight, channels_last, plan.geometry.panel), 0)])


def _rows(weight: tuple[int, ...], channels_last: bool, panel: int) -> Array:
    """Where in a panel each of a filter's numbers goes, in the order of the weight's memory."""
    _, depth, height, width = weight
    rows = np.arange(depth * height * width, dtype=np.int64)
    if not channels_last:
        rows = np.ascontiguousarray(rows.reshape(height, width, depth).transpose(2, 0, 1)).ravel()
    return rows * panel


@functools.lru_cache(maxsize=256)
def _gradient_work(
    tile: Tile,
    itemsize: int,
    gy: tuple[int, ...],
    gx: tuple[int, ...],
    weight: tuple[int, ...],
    stride: tuple[int, int],
    before: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> tuple[Work | None, bool]:
    """All phases of the input, and whether they fill it: no tap reaches those left out."""
    n, *size, filters = gy
    _, *large, channels = gx
    _, depth, _, width = weight
    down, across = (
        _phases(size[i], large[i], weight[2 + i], stride[i], before[i], dilation[i]) for i in (0, 1)
    )
    steps = (
        large[0] * large[1] * channels,
        stride[0] * large[1] * channels,
        stride[1] * channels,
    )
    parts = []
    for (row, rows, r), (column, columns, s) in product(down, across):
        if not (rows.offsets and columns.offsets):
            continue
        plan = make_plan(tile, itemsize, n, filters, groups, channels, rows, columns, steps, True)
        taps = np.array([(i * width + j) * depth for i, j in product(r, s)], np.int64)
        parts.append((plan, taps, (row * large[1] + column) * channels))
    return join(parts) if parts else None, len(parts) == len(down) * len(across)


def _phases(
    small: int, large: int, kernel: int, stride: int, before: int, dilation: int
) -> list[tuple[int, Axis, list[int]]]:
    """For each phase of an axis: its number, what it reads of the output, and by which taps.

    Input i has part in output (i + before - r dilation) / stride for the taps r that divide.
    """
    phases = []
    for phase in range(min(stride, large)):
        reads = sorted(
            ((phase + before - r * dilation) // stride, r)
            for r in range(kernel)
            if (phase + before - r * dilation) % stride == 0
        )
        count = -(-(large - phase) // stride)
        outputs = Axis(small, count, 1, tuple(offset for offset, _ in reads))
        phases.append((phase, outputs, [r for _, r in reads]))
    return phases
