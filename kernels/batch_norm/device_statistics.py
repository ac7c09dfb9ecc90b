"""What batch_norm on a GPU adds up over each channel: statistics and gradients, .cu or .metal."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from kernels.gpu.operator import DeviceOperator, ceil_div

if TYPE_CHECKING:
    from torch import Tensor

THREADS, WARP = 256, 32
BLOCK = 512
"""Threads that have a channel to themselves, where there is little of it."""
SMALL = 1 << 15
"""Numbers in a channel that one block gets through soon enough; another launch would cost more."""
WARPS = 8192
"""That channels are shared out among: about as many as a large GPU holds at once."""


class Channels(NamedTuple):
    """What a pass over the input has to know of its channels, [C] each."""

    mean: Tensor
    low: Tensor | None
    """What rounding took from the mean, where it is known."""
    spread: Tensor
    variance: bool
    """Whether spread is the variance; else it is 1 / sqrt(variance + eps)."""
    eps: float

    @property
    def centre(self) -> tuple[Tensor, Tensor, int]:
        """mean, low and whether there is a low, as the kernels take them."""
        return self.mean, self.mean if self.low is None else self.low, int(self.low is not None)


class Cut(NamedTuple):
    """How a channel is cut into pieces."""

    wide: int
    """Numbers in a unit, which is loaded at once."""
    lanes: int
    """Threads that take the units of a row side by side."""
    workers: int
    """Warps that share a channel."""


class DeviceStatistics(DeviceOperator):
    """A batch's mean and variance, on [N, C, L]."""

    source = "batch_norm/statistics"

    def of(
        self,
        x: Tensor,
        sizes: tuple[int, int, int],
        eps: float,
        running: tuple[Tensor, Tensor] | None = None,
        momentum: float = 0.0,
    ) -> Channels:
        """Mean and 1 / sqrt(variance + eps) of the batch; running mean and variance follow."""
        n, c, length = sizes
        cut = _cut(self._sequential, sizes, x)
        partial = x.new_empty((c, cut.workers, 4))
        self._launch("batch_norm_moments", _blocks(c * cut.workers), THREADS,
                     x, partial, *sizes, *cut)  # fmt: skip
        mean, low, invstd = x.new_empty((3, c)).unbind()
        updated = (mean, low) if running is None else running
        self._launch(
            "batch_norm_statistics",
            _blocks(c),
            THREADS,
            *(partial, mean, low, invstd, *updated, c, cut.workers, n * length),
            *(1.0 - momentum, float(momentum), eps, int(running is not None)),
        )
        return Channels(mean, low, invstd, False, eps)

    def normalised(
        self,
        x: Tensor,
        output: Tensor,
        sizes: tuple[int, int, int],
        eps: float,
        running: tuple[Tensor, Tensor] | None,
        momentum: float,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Channels:
        """What `of` returns, and `output`, in one launch: for `small` batches."""
        c = sizes[1]
        cut = _cut(self._sequential, sizes, x, output)
        mean, low, invstd = x.new_empty((3, c)).unbind()
        updated = (mean, low) if running is None else running
        self._launch(
            "batch_norm_training",
            c,
            BLOCK,
            *(x, output, mean if weight is None else weight, mean if bias is None else bias),
            *(mean, low, invstd, *updated, *sizes, cut.wide, cut.lanes),
            *(1.0 - momentum, float(momentum), eps, int(running is not None)),
            *(int(weight is not None), int(bias is not None)),
        )
        return Channels(mean, low, invstd, False, eps)


class DeviceGradients(DeviceOperator):
    """The gradients of weight and bias, on [N, C, L]."""

    source = "batch_norm/gradients"

    def of(
        self, gy: Tensor, x: Tensor, sizes: tuple[int, int, int], channels: Channels
    ) -> tuple[Tensor, Tensor]:
        """Sums of gy times the normalised input, which is weight's, and of gy."""
        c = sizes[1]
        cut = _cut(self._sequential, sizes, gy, x)
        mean, low, has_low = channels.centre
        partial = x.new_empty((c, cut.workers, 2))
        self._launch("batch_norm_sums", _blocks(c * cut.workers), THREADS,
                     gy, x, mean, low, partial, *sizes, *cut, has_low)  # fmt: skip
        weight, bias = x.new_empty((c,)), x.new_empty((c,))
        self._launch(
            "batch_norm_gradients",
            _blocks(c),
            THREADS,
            *(partial, channels.spread, weight, bias, c, cut.workers),
            *(int(channels.variance), channels.eps),
        )
        return weight, bias


def _cut(sequential: bool, sizes: tuple[int, int, int], *tensors: Tensor) -> Cut:
    vectors = sizes[2] % 4 == 0 and all(tensor.data_ptr() % 16 == 0 for tensor in tensors)
    cut = cut_of(*sizes, 4 if vectors else 1)
    return cut._replace(workers=1) if sequential else cut


@functools.lru_cache(maxsize=256)
def cut_of(n: int, c: int, length: int, wide: int) -> Cut:
    """Enough workers for the whole GPU, but none that would have less than one round of loads."""
    units = length // wide
    lanes = min(WARP, 1 << max(0, units - 1).bit_length())
    tiles = n * ceil_div(units, lanes)
    round_of_loads = WARP // lanes * (4 if wide == 4 else 8)
    return Cut(wide, lanes, max(1, min(ceil_div(tiles, round_of_loads), ceil_div(WARPS, c))))


def _blocks(warps: int) -> int:
    return ceil_div(warps * WARP, THREADS)
