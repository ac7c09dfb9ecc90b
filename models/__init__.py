"""Networks and their input: LeNet-5, torchvision's classification networks, photographs.

Importing the package loads nothing heavy: torch and torchvision come with the submodules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.choice import Choice
from models.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from models.handmade import Handmade

__all__ = ["Choice", "InputError", "on_kernels"]


def on_kernels(module: nn.Module, implementation: str, threads: int | None = None) -> Handmade:
    """A torch CNN on the operators of `kernels`: a callable from images to logits, both tensors.

    `module` has to be in eval mode and is copied; its batch norms are folded into the convolutions
    before them, and so are the relus. `threads`: for threaded implementations, None for all. What
    `implementation` does not claim, `winograd` for one, runs by "numba_threads", and what those of
    Triton do not by "cuda". One of a GPU copies the weights there and takes float32 images there.
    Raises InputError, naming it, for a layer that no operator computes, for hooks, for weights that
    are neither float32 nor float64 (on a GPU: float32) or not on the CPU, and for an implementation
    that is unknown or cannot run here.
    """
    # Here, because it brings torch and numba.
    from models.handmade import Handmade

    return Handmade(module, implementation, threads)
