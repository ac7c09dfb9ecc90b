"""MPI: rank 0 scatters the images, each rank infers its share, rank 0 gathers the logits.

Buffers are sent, not pickles. Each rank has one intra-op thread. Start it with
`mpirun -n 4 pytest bench/inference --with-mpi --benchmark-only`; `serial_on_one_rank` is the base
of the same launch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches, torch_threads

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


@contextmanager
def over_ranks(
    model: nn.Module, comm: Intracomm, like: Tensor, classes: int
) -> Iterator[Callable[[Tensor], Tensor | None]]:
    """Takes rank 0's images, of the shape of `like`; gives the logits on rank 0, None elsewhere."""
    shares = [len(like) // comm.size + (r < len(like) % comm.size) for r in range(comm.size)]
    mine = torch.empty(shares[comm.rank], *like.shape[1:])
    per_image = like[0].numel()
    sent = [share * per_image for share in shares]
    received = [share * classes for share in shares]
    gathered = torch.empty(len(like), classes) if comm.rank == 0 else None

    def infer(images: Tensor) -> Tensor | None:
        comm.Scatterv((images.numpy(), sent) if comm.rank == 0 else None, mine.numpy(), root=0)
        logits = in_batches(model, mine, batch_size=1) if len(mine) else torch.empty(0, classes)
        into = None if gathered is None else (gathered.numpy(), received)
        comm.Gatherv(logits.numpy(), into, root=0)
        return None if gathered is None else gathered.clone()

    with torch_threads(1):
        yield infer


@pytest.mark.speedup(axis="ranks")
def test_ranks(speedup, comm, model, images, logits):
    with over_ranks(model, comm, images, classes=logits.shape[1]) as infer:
        speedup(infer, images, expected=logits if comm.rank == 0 else None, work=len(images))


@pytest.mark.speedup
@pytest.mark.parametrize("ranks", [1], indirect=True)
def test_serial_on_one_rank(speedup, comm, model, images, logits):
    with torch_threads(1):
        speedup(in_batches, model, images, 1, expected=logits, work=len(images))
