"""What runs a kernel of a source file over a grid of blocks of threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    Argument = Tensor | int | float

Dim = tuple[int, int, int]
"""x, y, z; x is innermost."""

MOST_THREADS = 1024
"""A block's, on CUDA (every compute capability since 2.0) and on Apple's GPUs."""
MOST_BLOCKS = (2**31 - 1, 65535, 65535)
"""A grid's along x, y and z on CUDA ("CUDA C++ Programming Guide", technical specifications)."""
MOST_ELEMENTS = 2**31 - 1
"""A tensor's: the kernels count in 32 bits."""


class DeviceError(RuntimeError):
    """A source that does not compile, or a kernel that could not run; says which and why."""


class Device(Protocol):
    """A CUDA device, Apple's, or the host grid."""

    kind: str
    """torch's name of the device whose tensors it takes: "cuda", "mps" or "cpu"."""
    ending: str
    """Of the source files that it runs: ".cu" or ".metal"."""

    def unavailable_reason(self) -> str | None:
        """Why it cannot be used on this machine, or None."""

    def launch(
        self, source: Path, kernel: str, blocks: Dim, threads: Dim, arguments: Sequence[Argument]
    ) -> None:
        """Run `kernel` of `source` on `blocks` of `threads` each; a GPU may still be at it.

        Tensors are passed as pointers to their memory, whole numbers as 64-bit integers, others as
        float. Raises DeviceError.
        """


def check_launch(kernel: str, blocks: Dim, threads: Dim) -> None:
    """Raise ValueError for a launch over the limits, naming the limit."""
    total = threads[0] * threads[1] * threads[2]
    if min(threads) < 1 or total > MOST_THREADS:
        raise ValueError(
            f"{kernel}: a block has 1 to {MOST_THREADS} threads, asked for {total}: {threads}"
        )
    for axis, count, most in zip("xyz", blocks, MOST_BLOCKS, strict=True):
        if not 1 <= count <= most:
            raise ValueError(
                f"{kernel}: a grid has 1 to {most} blocks along {axis}, asked for {count}: {blocks}"
            )
