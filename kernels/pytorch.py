"""PyTorch on NumPy arrays, for the implementations that are PyTorch itself.

torch is imported where it is used: loading it takes seconds, and no other implementation needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kernels.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor


class ByTorch:
    """What the algorithms share that are PyTorch itself."""

    threaded = True

    def unavailable_reason(self) -> str | None:
        """Why PyTorch cannot be used, or None."""
        return None if importlib.util.find_spec("torch") else "PyTorch is not installed"


def tensor(array: Array) -> Tensor:
    """The array's own memory as a tensor.

    Where torch cannot share it (negative strides, read-only), a copy that lies in the same order.
    """
    import torch

    if array.flags.writeable:  # else torch warns
        try:
            return torch.from_numpy(array)
        except ValueError:  # negative strides
            pass
    return torch.from_numpy(array.copy(order="K"))


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use `threads` within an operator, None for as many as it is set to; restored.

    New Python threads take the number that was set last by any: where several threads ask for
    different ones at once, that may be another afterwards.
    """
    import torch

    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
