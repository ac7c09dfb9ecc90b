"""One image after another, each operator split over torch's intra-op threads.

Helps as far as single operators are large; the threads meet again after each of them. A library
that splits an operator's output changes no sum; one that chooses its algorithm by the number of
threads, as oneDNN does on some CPUs and not on others, sums in another order and rounds
differently. Whether the bits agreed stands in the table's last column.
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
def test_intra_op(speedup, model, images, logits, rounding, threads):
    with intra_op(model, threads) as infer:
        speedup(infer, images, expected=logits, work=len(images), tolerance=rounding)
