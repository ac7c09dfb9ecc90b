"""The two bases: one image after another, on one thread and on the framework's default threads.

`serial` is contiguous float32, eager, one intra-op thread: what parallel code has to beat.
`default` is the same code as most people run it: torch chooses how many threads, and with them on
some CPUs in what order an operator sums.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches, torch_threads


@contextmanager
def one_by_one(model: nn.Module, threads: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """One image after another, in the calling thread."""
    with torch_threads(threads):
        yield partial(in_batches, model, batch_size=1)


@pytest.mark.speedup
def test_serial(speedup, model, images, logits):
    with one_by_one(model, threads=1) as infer:
        speedup(infer, images, expected=logits, work=len(images))


@pytest.mark.speedup
def test_default(speedup, model, images, logits, rounding):
    with one_by_one(model, torch.get_num_threads()) as infer:
        speedup(infer, images, expected=logits, work=len(images), tolerance=rounding)
