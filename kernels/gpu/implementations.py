"""The implementations that run on a GPU, by name, in the order in which legends show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.gpu.cuda import CudaDevice
from kernels.gpu.device import Device
from kernels.gpu.metal import MetalDevice
from kernels.gpu.triton import TritonDevice
from kernels.operator import Entry

if TYPE_CHECKING:
    from kernels.gpu.operator import TensorOperator


@dataclass(frozen=True)
class Implementation:
    """How the kernels of a source file are run."""

    language: str
    """"cuda" or "metal": which source."""
    device: Callable[[], Device]
    sequential: bool
    """Whether one thread does everything."""

    def has(self, entry: Entry) -> bool:
        """Whether there is such an operator."""
        return entry.on_device is not None

    def made(self, entry: Entry) -> TensorOperator:
        """The operator; only where there is one."""
        assert entry.on_device is not None
        return entry.on_device(self.device(), sequential=self.sequential)


@dataclass(frozen=True)
class TritonImplementation:
    """How Triton's kernels multiply."""

    mode: str
    """One of `kernels.gpu.triton.MODES`."""

    def has(self, entry: Entry) -> bool:
        """Whether there is such an operator."""
        return entry.on_triton is not None and self.mode in entry.on_triton.modes

    def made(self, entry: Entry) -> TensorOperator:
        """The operator; only where there is one."""
        assert entry.on_triton is not None
        return entry.on_triton(TritonDevice(), self.mode)


IMPLEMENTATIONS: dict[str, Implementation | TritonImplementation] = {
    "cuda_sequential": Implementation("cuda", CudaDevice, sequential=True),
    "cuda": Implementation("cuda", CudaDevice, sequential=False),
    "triton": TritonImplementation("ieee"),
    "triton_tf32": TritonImplementation("tf32"),
    "triton_bf16": TritonImplementation("bf16"),
    "metal_sequential": Implementation("metal", MetalDevice, sequential=True),
    "metal": Implementation("metal", MetalDevice, sequential=False),
}
