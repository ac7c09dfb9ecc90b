"""Several images in one forward pass; alone along the batch, and as a grid with the threads.

    batched   over batch sizes, at 1 thread and at all
    grid      over threads, at a large batch and at a quarter of it

A larger batch gives each operator more to share out and reads each weight less often; its
activations leave the caches sooner. Another batch size may take another algorithm: sums round
differently.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from torch import Tensor, nn

from bench.inference.forward import in_batches, torch_threads


@contextmanager
def batched(
    model: nn.Module, threads: int, batch_size: int
) -> Iterator[Callable[[Tensor], Tensor]]:
    """One batch after another, `threads` threads for each operator."""
    with torch_threads(threads):
        yield partial(in_batches, model, batch_size=batch_size)


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="batch_size")
def test_batched(speedup, model, images, logits, rounding, batch_size, threads):
    with batched(model, threads, batch_size) as infer:
        speedup(infer, images, expected=logits, work=len(images), tolerance=rounding)


@pytest.mark.speedup(axis="threads")
def test_grid(speedup, model, images, logits, rounding, threads, batch_size):
    with batched(model, threads, batch_size) as infer:
        speedup(infer, images, expected=logits, work=len(images), tolerance=rounding)
