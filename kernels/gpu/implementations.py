"""The implementations that run on a GPU, by name, in the order in which legends show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernels.gpu.cuda import CudaDevice
from kernels.gpu.device import Device
from kernels.gpu.metal import MetalDevice


@dataclass(frozen=True)
class Implementation:
    """How the kernels of a source file are run."""

    language: str
    """"cuda" or "metal": which source."""
    device: Callable[[], Device]
    sequential: bool
    """Whether one thread does everything."""


IMPLEMENTATIONS = {
    "cuda_sequential": Implementation("cuda", CudaDevice, sequential=True),
    "cuda": Implementation("cuda", CudaDevice, sequential=False),
    "metal_sequential": Implementation("metal", MetalDevice, sequential=True),
    "metal": Implementation("metal", MetalDevice, sequential=False),
}
