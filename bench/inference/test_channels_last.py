"""Channels innermost: a pixel's channels lie side by side, as vectorised convolutions like it.

The network's weights are turned once, outside the timing; a call is given contiguous images and
turns them itself, as it would have to in use.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches, torch_threads


@contextmanager
def channels_last(model: nn.Module, threads: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """One image after another, weights and images with their channels innermost."""
    turned = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def infer(images: Tensor) -> Tensor:
        return in_batches(turned, images.to(memory_format=torch.channels_last), batch_size=1)

    with torch_threads(threads):
        yield infer


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_channels_last(speedup, model, images, logits, rounding, threads):
    with channels_last(model, threads) as infer:
        speedup(infer, images, expected=logits, work=len(images), tolerance=rounding)
