"""A device that notes what is launched on it, for those who tell what a design costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernels.gpu.device import Dim

if TYPE_CHECKING:
    from kernels.gpu.device import Argument, Device


@dataclass(frozen=True)
class Launch:
    """A kernel of a source, and the grid it ran over."""

    source: Path
    kernel: str
    blocks: Dim
    threads: Dim

    @property
    def block(self) -> int:
        """Threads of a block."""
        return self.threads[0] * self.threads[1] * self.threads[2]

    @property
    def total(self) -> int:
        """Threads of the whole grid."""
        return self.blocks[0] * self.blocks[1] * self.blocks[2] * self.block


class Recording:
    """Runs what it is asked to on another device, and keeps a list of `launches`."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.kind, self.ending = device.kind, device.ending
        self.launches: list[Launch] = []

    def unavailable_reason(self) -> str | None:
        """The other device's."""
        return self._device.unavailable_reason()

    def launch(
        self, source: Path, kernel: str, blocks: Dim, threads: Dim, arguments: Sequence[Argument]
    ) -> None:
        """See `Device.launch`."""
        self.launches.append(Launch(source, kernel, blocks, threads))
        self._device.launch(source, kernel, blocks, threads, arguments)
