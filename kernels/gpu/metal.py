"""Metal: a `.metal` file through `torch.mps.compile_shader`, launched on torch's MPS stream.

There Python's ints arrive as `long`, its floats as `float`, and `threads` counts those of the whole
grid. Metal takes at most 31 buffers, each scalar being one. torch compiles without fast math, which
NaN, infinities and compensated sums need, unless PYTORCH_MPS_FAST_MATH is set to 1.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernels.gpu.device import DeviceError, Dim, check_launch

if TYPE_CHECKING:
    from kernels.gpu.device import Argument

MOST_BUFFERS = 31


class MetalDevice:
    """Runs kernels on Apple's GPU."""

    kind = "mps"
    ending = ".metal"

    def unavailable_reason(self) -> str | None:
        """Why no Apple GPU can be used here, or None."""
        if importlib.util.find_spec("torch") is None:
            return "PyTorch is not installed"
        import torch

        if not torch.backends.mps.is_built():
            return "torch is built without MPS, which Apple's GPUs need"
        if not torch.backends.mps.is_available():
            return "no MPS device that torch can use"
        if not hasattr(torch.mps, "compile_shader"):
            return f"torch {torch.__version__} has no torch.mps.compile_shader; 2.6 has"
        return None

    def launch(
        self, source: Path, kernel: str, blocks: Dim, threads: Dim, arguments: Sequence[Argument]
    ) -> None:
        """Put the kernel onto torch's stream; see `Device.launch`.

        The device may still be at it when this returns.
        """
        check_launch(kernel, blocks, threads)
        if len(arguments) > MOST_BUFFERS:
            raise ValueError(
                f"{kernel}: Metal takes at most {MOST_BUFFERS} arguments, got {len(arguments)}"
            )
        reason = self.unavailable_reason()
        if reason is not None:
            raise DeviceError(f"{source.name}: {kernel}: {reason}")
        grid = [blocks[i] * threads[i] for i in range(3)]
        try:
            getattr(_library(source), kernel)(*arguments, threads=grid, group_size=list(threads))
        except (RuntimeError, AttributeError, TypeError) as error:
            raise DeviceError(f"{source.name}: {kernel}: {error}") from error


@functools.lru_cache(maxsize=64)
def _library(source: Path) -> Any:
    import torch

    try:
        return torch.mps.compile_shader(source.read_text(encoding="utf-8"))
    except (RuntimeError, SyntaxError) as error:
        raise DeviceError(f"Metal could not compile {source.name}: {error}") from error
