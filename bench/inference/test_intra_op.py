"""One image after another, each operator split over torch's intra-op threads.

Helps as far as single operators are large; the threads meet again after each of them. Splitting an
operator's output changes no sum, so every bit agrees. A library that splits sums instead shows up
as a red test.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from torch import Tensor, nn

from bench.inference.forward import in_batches, torch_threads


@contextmanager
def intra_op(model: nn.Module, threads: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """One image after another, `threads` threads for each operator."""
    with torch_threads(threads):
        yield partial(in_batches, model, batch_size=1)


@pytest.mark.speedup(axis="threads")
def test_intra_op(speedup, model, images, logits, threads):
    with intra_op(model, threads) as infer:
        speedup(infer, images, expected=logits, work=len(images))
