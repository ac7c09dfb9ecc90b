"""Every image is a task of a ThreadPoolExecutor; each worker has one intra-op thread.

torch leaves Python's global lock while an operator runs, so threads do compute at once; they share
the network and copy nothing. `torch.set_num_threads` reaches the calling thread only: each worker
sets it for itself and reads it back.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches
from bench.thread_workers import ThreadWorkers


class ThreadPool(ThreadWorkers):
    """Infers images with `threads` workers, all of them started on entry."""

    def __init__(self, model: nn.Module, threads: int) -> None:
        super().__init__(threads)
        self._model = model

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, ...]."""
        return torch.cat(list(self._pool.map(self._infer, images.split(1))))

    def _infer(self, image: Tensor) -> Tensor:
        return in_batches(self._model, image, batch_size=1)


@pytest.mark.speedup(axis="threads")
def test_thread_pool(speedup, model, images, logits, threads):
    with ThreadPool(model, threads) as infer:
        speedup(infer, images, expected=logits, work=len(images))
