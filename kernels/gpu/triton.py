"""Triton: kernels in Python, compiled for the CUDA device at hand, on torch's current stream.

A module of kernels imports triton, so it is imported only by the call that runs them: there is no
triton for Macs, nor where torch is built for CPUs alone. Only the forward direction is here.

Products come in modes, each an implementation of its own:
    ieee  float32 as it is, by fused multiplications and additions on the CUDA cores
    tf32  operands cut to 11 significant bits on the tensor cores, sums in float32
    bf16  operands rounded to bfloat16, 8 significant bits, likewise
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from kernels.gpu.cuda import no_device
from kernels.gpu.device import MOST_ELEMENTS, DeviceError
from kernels.gpu.operator import TensorOperator

if TYPE_CHECKING:
    from kernels.gpu.device import Argument

MODES = ("ieee", "tf32", "bf16")
LARGEST_PROGRAM = 65536
"""More elements than any program takes; sizes this far below 2^31 cannot run over in 32 bits."""


def fitting(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """`shape`; raises ValueError for a result whose elements a program cannot count in 32 bits."""
    most = MOST_ELEMENTS - LARGEST_PROGRAM
    if math.prod(shape) > most:
        raise ValueError(f"{name} must have at most {most} elements, got shape {tuple(shape)}")
    return tuple(shape)


class TritonDevice:
    """Runs kernels on the CUDA device on which the tensors lie."""

    kind = "cuda"

    def unavailable_reason(self) -> str | None:
        """Why Triton's kernels cannot run here, or None."""
        return _reason()

    def launch(
        self,
        kernel: Any,
        programs: int,
        *arguments: Argument | None,
        warps: int = 4,
        stages: int = 1,
        **constants: object,
    ) -> None:
        """Put so many programs of a `@triton.jit` function onto torch's current stream.

        The device may still be at it when this returns. `constants`: what the kernel is compiled
        for. Raises DeviceError.
        """
        import torch

        device = next(a.device for a in arguments if isinstance(a, torch.Tensor))
        reason = self.unavailable_reason()
        if reason is not None:
            raise DeviceError(f"{kernel.__name__}: {reason}")
        # Triton warns unless told whether to fuse a multiplication with an addition.
        options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
        with torch.cuda.device(device):
            try:
                kernel[(programs,)](*arguments, **constants, **options)
            except Exception as error:  # the compiler's, the driver's: without a base in common
                raise DeviceError(f"{kernel.__name__}: {error}") from error


@functools.lru_cache(maxsize=1)
def _reason() -> str | None:
    reason = no_device()
    if reason is None and importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install triton"
    return reason


class TritonOperator(TensorOperator):
    """One operator by Triton's kernels, forward alone."""

    modes: ClassVar[tuple[str, ...]] = ("ieee",)
    """How it can multiply."""
    _device: TritonDevice

    def __init__(self, device: TritonDevice, mode: str) -> None:
        super().__init__(device)
        if mode not in self.modes:
            raise ValueError(f"mode must be one of {', '.join(self.modes)}, got {mode!r}")
        self._mode = mode

    def backward(self, *_: object, **__: object) -> NoReturn:
        """There is none: raises NotImplementedError."""
        raise NotImplementedError(
            f"{type(self).__name__} computes no gradients; the implementations cuda and metal do"
        )
