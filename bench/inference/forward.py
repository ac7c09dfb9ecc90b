"""What the strategies share: the forward passes themselves, and how many threads torch has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.inference_mode()
def in_batches(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """Logits [n, classes] of images [n, ...], one batch after another, the last perhaps smaller."""
    return torch.cat([model(batch) for batch in images.split(batch_size)])


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Intra-op threads of the calling thread, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
