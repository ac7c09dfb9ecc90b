"""bfloat16 autocast: convolutions and matrix products with 8 bits of precision instead of 24.

Fast where the CPU has instructions for it (AMX, AVX512-BF16), slow where it has none. Not the same
result: the share of equal top-1 answers stands with the time, and it is nobody's serial base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches, torch_threads
from bench.tolerances import reduced_precision


@contextmanager
def bfloat16(model: nn.Module, threads: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """One image after another under autocast; float32 logits."""

    def infer(images: Tensor) -> Tensor:
        # Around the whole call: weights are converted once for all of its images.
        with torch.autocast("cpu", torch.bfloat16):
            return in_batches(model, images, batch_size=1).float()

    with torch_threads(threads):
        yield infer


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads", serial=False)
def test_bfloat16(speedup, model, images, logits, threads):
    with bfloat16(model, threads) as infer:
        speedup(infer, images, expected=reduced_precision(logits), work=len(images))
