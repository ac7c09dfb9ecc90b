"""What every operator on a GPU is: the operator's arguments as contiguous float32 tensors.

The names, arguments and results are those of the operator on NumPy arrays, and so are the checks
of shapes and numbers; what is asked of a tensor beyond that is here. A source file for CUDA or
Metal holds what one thread runs alone as `name_sequential`, and `name` beside it; what several
tiles make, `name_64` and so on, each language by its own, has one such twin for all.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kernels.gpu.device import MOST_ELEMENTS

if TYPE_CHECKING:
    from torch import Tensor

    from kernels.arrays import Array
    from kernels.gpu.device import Argument, Device, Dim
    from kernels.gpu.triton import TritonDevice

FOLDER = Path(__file__).parents[1]
ONE: Dim = (1, 1, 1)


class TensorOperator:
    """One operator on a device's tensors; subclasses have `forward` and `backward`."""

    def __init__(self, device: Device | TritonDevice) -> None:
        self._device = device

    @property
    def kind(self) -> str:
        """torch's name of the device that its tensors lie on: "cuda", "mps" or "cpu"."""
        return self._device.kind

    def unavailable_reason(self) -> str | None:
        """Why it cannot run on this machine, or None."""
        return self._device.unavailable_reason()

    def _tensor(
        self,
        name: str,
        value: object,
        like: Tensor | None = None,
        dtype: str = "float32",
        *,
        channels_last: bool = False,
    ) -> Tensor:
        """`value`, which a kernel can take as it is.

        Raises TypeError unless it is a tensor of `dtype`, and ValueError unless it lies contiguous
        on the device, the same as `like` lies on, with fewer than 2^31 elements. `channels_last`:
        whether that memory will do too.
        """
        import torch

        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
        if value.dtype != getattr(torch, dtype):
            raise TypeError(
                f"{name} must be {dtype}, got {str(value.dtype).removeprefix('torch.')}"
            )
        if value.device.type != self._device.kind:
            raise ValueError(
                f"{name} must be on a {self._device.kind!r} device, got {str(value.device)!r}"
            )
        if like is not None and value.device != like.device:
            raise ValueError(
                f"{name} must be on {str(like.device)!r} as the input is, got {str(value.device)!r}"
            )
        if not value.is_contiguous() and not (
            channels_last and value.is_contiguous(memory_format=torch.channels_last)
        ):
            raise ValueError(
                f"{name} must be contiguous, got strides {value.stride()} for shape "
                f"{tuple(value.shape)}; call its contiguous()"
            )
        if value.numel() > MOST_ELEMENTS:
            raise ValueError(
                f"{name} must have at most {MOST_ELEMENTS} elements, got {value.numel()}"
            )
        return value.detach()


class DeviceOperator(TensorOperator):
    """One operator by source files for CUDA and Metal."""

    _device: Device

    source: ClassVar[str]
    """The file in `kernels/`, without its ending: relu/relu."""
    more_sources: ClassVar[tuple[str, ...]] = ()
    """Further files, for launches that name theirs."""

    def __init__(self, device: Device, *, sequential: bool) -> None:
        super().__init__(device)
        self._sequential = sequential

    def _launch(
        self,
        kernel: str,
        blocks: int | Dim,
        threads: int | Dim,
        *arguments: Argument,
        source: str | None = None,
    ) -> None:
        """Run a kernel of the source; where this is the sequential variant, its twin, by 1 thread.

        `source` names one of `more_sources`. Raises DeviceError, and ValueError for a
        launch over the limits.
        """
        path = _path(source or self.source, self._device.ending)
        if self._sequential:
            self._device.launch(path, f"{kernel}_sequential", ONE, ONE, arguments)
            return
        grid = (blocks, 1, 1) if isinstance(blocks, int) else blocks
        block = (threads, 1, 1) if isinstance(threads, int) else threads
        self._device.launch(path, kernel, grid, block, arguments)


@functools.lru_cache(maxsize=64)
def _path(source: str, ending: str) -> Path:
    return FOLDER / (source + ending)


def shadow(tensor: Tensor) -> Array:
    """A NumPy array of the tensor's shape and dtype, all zeros in the memory of one.

    By it the checks of an operator on arrays serve for tensors too.
    """
    return zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def zeros(shape: tuple[int, ...], dtype: str = "float32") -> Array:
    """What `shadow` returns for a tensor of that shape and dtype."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def ceil_div(total: int, size: int) -> int:
    """How many pieces of `size` cover `total`."""
    return -(-total // size)
