"""What the GPU kernels of conv2d are told of a call: tables, made once a shape and kept there.

conv2d.cu says what a product, its phases and its taps are. Nothing here depends on the device but
the choice of the tile and of the splits, by a model of what they cost.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kernels.gpu.operator import ceil_div

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kernels.arrays import Array

DEPTH = 8
"""Of a step: the depth of a product is a multiple of it."""
OUTSIDE = -(2**31)
"""A tap's row beyond every image."""


class Sizes(NamedTuple):
    """The kernels' `Shape`."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    p: int
    q: int
    stride_h: int
    stride_w: int
    before_h: int
    before_w: int
    dilation_h: int
    dilation_w: int
    groups: int

    @property
    def depth(self) -> int:
        """Of a filter, in channels."""
        return self.c // self.groups

    @property
    def filters(self) -> int:
        """In a group."""
        return self.k // self.groups


@dataclass(frozen=True)
class Tile:
    """What a block makes of a product."""

    rows: int
    columns: int
    threads: int
    cycles: int
    """A multiprocessor's clock cycles for a step, by the instructions that it has to issue."""


@dataclass(frozen=True)
class Gpu:
    """What the choice between tiles goes by; a rough picture of the GPUs that run a language."""

    multiprocessors: int
    gather: tuple[Tile, ...]
    weight: tuple[Tile, ...]


GPUS = {
    ".cu": Gpu(
        multiprocessors=132,
        gather=(
            Tile(128, 128, 256, 1280),
            Tile(64, 128, 128, 680),
            Tile(32, 128, 128, 400),
            Tile(8, 256, 128, 340),
        ),
        weight=(Tile(64, 128, 128, 690), Tile(32, 32, 64, 120)),
    ),
    ".metal": Gpu(
        multiprocessors=16,
        gather=(Tile(32, 64, 128, 210), Tile(8, 128, 128, 170)),
        weight=(Tile(32, 32, 64, 130),),
    ),
}
LATENCY = 1000
"""Cycles that a step takes at least: until what it loads is there."""
ROUNDS = 3
"""Steps that a block's beginning and end are worth."""
MERGING, BYTES = 4000, 11
"""Cycles of the kernel that adds up, before it begins; then bytes a cycle and multiprocessor."""
SPLITS = (*range(1, 17), *(2**i for i in range(5, 10)))
WORKSPACE = 2**26
"""Elements at most."""


@dataclass(frozen=True)
class Plan:
    """A launch, and the tables that it reads."""

    tile: Tile
    splits: int
    blocks: int
    tiles: int
    """Of columns, in the phase that has the most."""
    shape: Tensor
    product: Tensor
    """The product, then its phases."""
    taps: Tensor
    """[depth, 4]: offset in the weight, offset in the source, row, column."""


@functools.lru_cache(maxsize=256)
def forward(sizes: Sizes, ending: str, device: torch.device) -> Plan:
    """The output [k / groups, n p q] in each group: one phase."""
    z = sizes
    taps = _taps(z)
    phase = (len(taps) // DEPTH, 0, z.p, z.q, 0, 0, -z.before_h, -z.before_w)
    source = (z.h * z.w, z.c, z.h, z.w, z.stride_h, z.stride_w)
    product = (z.filters, z.depth * z.r * z.s, *_common(z), *source, z.p, z.q, 1, 1, 1)
    return _gather_plan(z, product, [phase], taps, ending, device)


@functools.lru_cache(maxsize=256)
def grad_input(sizes: Sizes, ending: str, device: torch.device) -> Plan:
    """The input's gradient [c / groups, n h w] in each group.

    A phase holds the rows h with (h + before) % stride = a, which take from the output's rows
    (h + before - r dilation) / stride, where that is whole; columns alike.
    """
    z = sizes
    rows = _phases(z.h, z.r, z.stride_h, z.before_h, z.dilation_h)
    columns = _phases(z.w, z.s, z.stride_w, z.before_w, z.dilation_w)
    pieces, found = [], 0
    phases = []
    for row in rows:
        for column in columns:
            taps = _gradient_taps(z, row, column)
            pieces.append(taps)
            extent = (row.count, column.count, row.first, column.first, row.source, column.source)
            phases.append((len(taps) // DEPTH, found, *extent))
            found += len(taps)
    phases.sort(reverse=True)  # what takes long begins first
    source = (z.p * z.q, z.k, z.p, z.q, 1, 1)
    steps = (z.h, z.w, z.stride_h, z.stride_w, len(phases))
    product = (z.depth, z.r * z.s, *_common(z), *source, *steps)
    return _gather_plan(z, product, phases, np.concatenate(pieces), ending, device)


@functools.lru_cache(maxsize=256)
def grad_weight(sizes: Sizes, ending: str, device: torch.device) -> Plan:
    """The weight's gradient [k / groups, (c / groups) r s], by sums over n p q."""
    z = sizes
    columns, steps = z.depth * z.r * z.s, ceil_div(z.n * z.p * z.q, DEPTH)
    gpu = GPUS[ending]
    tile, splits = choose(gpu, gpu.weight, z.filters, columns, z.groups, steps, z.k * columns)
    tiles = ceil_div(columns, tile.columns)
    blocks = ceil_div(z.filters, tile.rows) * tiles * z.groups * splits
    shape, taps = _on(device, np.array(z), _taps(z))
    return Plan(tile, splits, blocks, tiles, shape, shape, taps)


def choose(
    gpu: Gpu, tiles: tuple[Tile, ...], rows: int, columns: int, count: int, steps: int, results: int
) -> tuple[Tile, int]:
    """The tile and the number of splits for which `count` products [rows, columns] take least time.

    Each has a depth of `steps`, on average; `results` elements come out of all together.
    """
    ways = []
    for tile in tiles:
        blocks = ceil_div(rows, tile.rows) * ceil_div(columns, tile.columns) * count
        for wanted in SPLITS:
            each = ceil_div(max(steps, 1), wanted)
            splits = ceil_div(max(steps, 1), each)
            if splits > 1 and splits * results > WORKSPACE:
                break
            here = ceil_div(blocks * splits, gpu.multiprocessors)
            time = max(here * tile.cycles, LATENCY) * (each + ROUNDS)
            if splits > 1:
                time += MERGING + 8 * splits * results // (gpu.multiprocessors * BYTES)
            ways.append((time, tile.cycles, splits, tile))
    *_, splits, tile = min(ways, key=lambda way: way[:3])
    return tile, splits


def _gather_plan(
    z: Sizes,
    product: tuple[int, ...],
    phases: list[tuple[int, ...]],
    taps: Array,
    ending: str,
    device: torch.device,
) -> Plan:
    rows, out_h, out_w = product[0], *product[11:13]
    positions = z.n * max(phase[2] * phase[3] for phase in phases)
    steps = ceil_div(sum(phase[0] for phase in phases), len(phases))
    gpu, count = GPUS[ending], z.groups * len(phases)
    results = z.n * z.groups * rows * out_h * out_w
    tile, splits = choose(gpu, gpu.gather, rows, positions, count, steps, results)
    tiles = ceil_div(positions, tile.columns)
    blocks = ceil_div(rows, tile.rows) * tiles * count * splits
    table = np.concatenate([np.array(product), *map(np.array, phases)])
    return Plan(tile, splits, blocks, tiles, *_on(device, np.array(z), table, taps))


def _common(z: Sizes) -> tuple[int, int, int]:
    """Groups, elements of a group's weights, images."""
    return z.groups, z.filters * z.depth * z.r * z.s, z.n


def _taps(z: Sizes) -> Array:
    """By channel, row and column of a filter, which is how the weight lies in memory."""
    c, r, s = (each.ravel() for each in np.indices((z.depth, z.r, z.s)))
    r, s = r * z.dilation_h, s * z.dilation_w
    return _filled(np.arange(c.size), c * z.h * z.w + r * z.w + s, r, s)


class _Axis(NamedTuple):
    """A phase along one axis: its pixels, and the taps of a filter that meet them."""

    count: int
    first: int
    source: int
    taps: Array
    back: Array
    """For each tap, how far before `source` it reads."""


def _phases(size: int, taps: int, stride: int, before: int, dilation: int) -> list[_Axis]:
    made = []
    reach = np.arange(taps) * dilation
    for first in range(min(stride, size)):
        place = (first + before) % stride
        meets = np.flatnonzero(reach % stride == place)
        back = (reach[meets] - place) // stride
        source = (first + before) // stride
        made.append(_Axis(ceil_div(size - first, stride), first, source, meets, back))
    return made


def _gradient_taps(z: Sizes, row: _Axis, column: _Axis) -> Array:
    k, i, j = (each.ravel() for each in np.indices((z.filters, len(row.taps), len(column.taps))))
    weight = (k * z.depth * z.r + row.taps[i]) * z.s + column.taps[j]
    r, s = -row.back[i], -column.back[j]
    return _filled(weight, k * z.p * z.q + r * z.q + s, r, s)


def _filled(*columns: Array) -> Array:
    """Up to a multiple of DEPTH with taps that read nothing."""
    table = np.stack(columns, axis=1)
    more = -len(table) % DEPTH
    return np.concatenate([table, np.tile([-1, 0, OUTSIDE, OUTSIDE], (more, 1))])


def _on(device: torch.device, *tables: Array) -> list[Tensor]:
    import torch

    return [torch.from_numpy(table.astype(np.int32)).to(device) for table in tables]
