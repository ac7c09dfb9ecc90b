"""Where the windows of the pooling operators lie, and how their kernels see an image.

Windows of any pooling are a grid: rows times columns of it, so that two small tables say all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from kernels.arrays import Array, flag, float_array, nhwc, pair
from kernels.compiled import tasks_for

Pair = int | tuple[int, int] | list[int]

GRAIN = 1 << 11
"""Vectors that a task loads: with fewer it would be done before a second thread had started."""
MOST = 2**31 - 1


@dataclass(frozen=True)
class Axis:
    """The windows along one axis of an input of `size` indices."""

    size: int
    windows: Array
    """[3, P]: the first index inside the input; how many are inside; share of the mean's divisor,
    which is the product of the row's and the column's share."""
    covering: Array
    """[2, size]: the windows that reach over an index, from the first of them to below the second;
    with dilation some of them step over it."""
    dilation: int = 1

    @functools.cached_property
    def outputs(self) -> int:
        """The number of windows."""
        return int(self.windows.shape[1])


@dataclass(frozen=True)
class Grid:
    """The windows of one call."""

    rows: Axis
    columns: Axis

    @functools.cached_property
    def filled(self) -> bool:
        """Whether all windows hold something; else dilation steps over a small input, in all."""
        return bool(self.rows.windows[1].all() and self.columns.windows[1].all())


@functools.lru_cache(maxsize=256)
def sliding(
    size: int,
    outputs: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int = 1,
    share: str | int = "inside",
) -> Axis:
    """Windows of equal size and distance; `share`: "inside" or "padded" size, or a number."""
    start = np.arange(outputs) * stride - padding
    skipped = np.maximum(0, -(start // dilation))
    first = start + skipped * dilation
    count = np.clip(-((first - size) // dilation), 0, np.maximum(kernel - skipped, 0))
    if share == "inside":
        shares = count
    elif share == "padded":
        shares = np.minimum(start + kernel, size + padding) - start
    else:
        shares = np.full(outputs, share)
    end = start + (kernel - 1) * dilation + 1
    return _axis(size, first, count, shares, start, end, dilation)


@functools.lru_cache(maxsize=256)
def adaptive(size: tuple[int, int], outputs: tuple[int, int]) -> Grid:
    """Window p of P from floor(p size / P) to ceil((p + 1) size / P)."""
    axes = []
    for length, count in zip(size, outputs, strict=True):
        start = np.arange(count) * length // max(count, 1)
        end = -(-np.arange(1, count + 1) * length // max(count, 1))
        axes.append(_axis(length, start, end - start, end - start, start, end, 1))
    return Grid(*axes)


def _axis(
    size: int, first: Array, count: Array, share: Array, start: Array, end: Array, dilation: int
) -> Axis:
    index = np.arange(size)
    covering = [np.searchsorted(end, index, "right"), np.searchsorted(start, index, "right")]
    tables = [np.array(table, np.int64) for table in ((first, count, share), covering)]
    for table in tables:
        table.flags.writeable = False
    return Axis(size, *tables, dilation)


def whole_images(value: object) -> tuple[Array, bool]:
    """The argument `input` as [N, C, H, W], and whether it came so; no dimension but N is empty."""
    given = float_array("input", value, (3, 4))
    if 0 in given.shape[-3:]:
        raise ValueError(f"input may be empty in its batch alone, got shape {given.shape}")
    return (given, True) if given.ndim == 4 else (given[None], False)


@dataclass(frozen=True)
class Window:
    """The arguments that max_pool2d and avg_pool2d share, as pairs."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil_mode: bool

    @classmethod
    def checked(
        cls, kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair, ceil_mode: bool
    ) -> Window:
        """The same, normalised; raises TypeError and ValueError as torch would in kind."""
        kernel = _pair("kernel_size", kernel_size, 1)
        none = stride is None or (isinstance(stride, (tuple, list)) and not stride)
        window = cls(
            kernel=kernel,
            stride=kernel if none else _pair("stride", stride, 1),
            padding=_pair("padding", padding, 0),
            dilation=_pair("dilation", dilation, 1),
            ceil_mode=flag("ceil_mode", ceil_mode),
        )
        for pad, reach in zip(window.padding, kernel, strict=True):
            if pad > reach // 2:
                raise ValueError(
                    f"padding must be at most half of kernel_size {kernel}, got {window.padding}"
                )
        return window

    def outputs(self, axis: int, size: int) -> int:
        """The number of windows along an axis of the input; raises ValueError for none.

        In ceil mode the last window may hang over, but has to start inside the input or its left
        padding (torch's `pooling_output_shape`).
        """
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        stride, padding = self.stride[axis], self.padding[axis]
        room = size + 2 * padding - reach
        count = (room + (stride - 1 if self.ceil_mode else 0)) // stride + 1
        if self.ceil_mode and (count - 1) * stride >= size + padding:
            count -= 1
        if count < 1:
            raise ValueError(
                f"kernel_size: {self.kernel} with dilation {self.dilation} is larger than the "
                f"padded input, {size + 2 * padding} along axis {('H', 'W')[axis]}"
            )
        return count

    def grid(
        self, sizes: tuple[int, int], shares: tuple[str | int, str | int] = ("inside", "inside")
    ) -> Grid:
        """All windows over an input of these sizes; `shares` as `sliding` takes them."""
        each = zip(
            sizes, self.kernel, self.stride, self.padding, self.dilation, shares, strict=True
        )
        axes = [
            sliding(size, self.outputs(axis, size), *rest)
            for axis, (size, *rest) in enumerate(each)
        ]
        return Grid(*axes)


P = ParamSpec("P")
R = TypeVar("R")


def remembered(make: Callable[P, R]) -> Callable[P, R]:
    """Keep what `make` returns of shapes, plain numbers and names; errors come anew each time.

    By the arguments' types too, for True is equal to 1. Lists and NumPy's numbers go by the memory.
    """
    kept = functools.lru_cache(maxsize=256, typed=True)(make)

    @functools.wraps(make)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        plain = not options and all(map(_plain, arguments))
        return kept(*arguments) if plain else make(*arguments, **options)  # type: ignore[arg-type]

    return call


def _plain(argument: object) -> bool:
    kind = type(argument)
    if kind is tuple:
        return set(map(type, argument)) <= {int, type(None)}  # type: ignore[call-overload]
    return kind in (int, bool, float, str, type(None))


def _pair(name: str, value: object, least: int) -> tuple[int, int]:
    """An int or two of them, each of 32 bits, which is what torch's pooling takes."""
    both = pair(name, value, least)
    if max(both) > MOST:
        raise ValueError(f"{name} must be at most {MOST}, got {max(both)}")
    return both


def gradient(value: object, images: Array, shape: tuple[int, ...], batched: bool) -> Array:
    """The argument `grad_output` as [N, C, P, Q]; raises ValueError unless it has `shape`."""
    wanted = shape if batched else shape[1:]
    given = float_array("grad_output", value, (len(wanted),), like=images)
    if given.shape != wanted:
        raise ValueError(f"grad_output must have shape {wanted}, got {given.shape}")
    return given if batched else given[None]


def flat(array: Array, channels_last: bool) -> Array:
    """[N, C, H, W] -> its numbers in the order of that memory; a view where they lie so."""
    return (nhwc(array) if channels_last else np.ascontiguousarray(array)).reshape(-1)


def planes(shape: tuple[int, ...], channels_last: bool) -> tuple[int, int]:
    """(images, depth) as memory has them: N and C in channels-last memory, else N * C and 1."""
    n, channels = shape[:2]
    return (n, channels) if channels_last else (n * channels, 1)


def tasks_of(lines: int, size: int, depth: int, lanes: int) -> int:
    """Into how many tasks `lines` of windows are cut, over `size` numbers in vectors of `lanes`."""
    return min(lines, tasks_for(size // depth * -(-depth // lanes), GRAIN))
