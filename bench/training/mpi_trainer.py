"""Data parallel training over MPI ranks: each takes its share of a batch, gradients are summed.

    MpiTrainer          one Allreduce, in place, over all gradients in one buffer
    OverlapTrainer      Iallreduce of the dense layers' gradients, 98 % of the bytes, while the
                        convolutions' are computed; then the rest
    IndependentTrainer  no communication at all: each rank trains on its shares alone, and learns
                        nothing of the others. The ceiling that this machine has for them

Each rank's gradients are those of its share's part in the whole batch's mean, so shares need not be
equal, and may be empty where a batch has fewer images than there are ranks. The loss travels behind
the gradients. All ranks add in the order that MPI takes, so they hold the same bits; MPI asks
implementations for that (MPI 4.1, section 6.9.1, advice to implementors), and the tests look.

With `threads` a rank runs each operator on several: the hybrid of MPI and threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.training.numpy_trainer import NumpyTrainer
from bench.training.trainer import Batch, Task, share_of
from models import InputError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

PROBES = 30
"""Of the Allreduce alone, and of the copy; their medians count."""


class MpiTrainer(NumpyTrainer):
    """Trains with all ranks of `comm`, each on `threads` threads.

    Raises InputError where whole batches have fewer images than there are ranks.
    """

    def __init__(
        self,
        task: Task,
        comm: Intracomm,
        threads: int = 1,
        *,
        dtype: type[np.floating] = np.float32,
    ) -> None:
        if task.settings.batch_size < comm.size:
            raise InputError(
                f"--batch-size {task.settings.batch_size}: smaller than the {comm.size} ranks, "
                f"which would have no image each; give {comm.size} or more, or start fewer ranks"
            )
        implementation = "numba" if threads == 1 else "numba_threads"
        super().__init__(task, implementation, threads, dtype=dtype)
        self._comm = comm
        self._asked = threads
        self._seconds = self._communicating = 0.0

    def __enter__(self) -> MpiTrainer:
        self._alone = probe(self._comm, self._network.gradients.flat)
        return self

    def train(self, batches: Sequence[Batch]) -> list[float]:
        """A step for each batch; the losses are the same on all ranks."""
        began = time.perf_counter()
        self._communicating = 0.0
        losses = super().train(batches)
        self._seconds = time.perf_counter() - began
        return losses

    def _gradients(self, batch: Batch) -> NDArray:
        self._own_gradients(batch)
        self._timed(self._reduce)
        return self._network.gradients.flat

    def _own_gradients(self, batch: Batch, ready: Callable[[str], None] = lambda _: None) -> None:
        mine = share_of(batch, self._comm.rank, self._comm.size)
        share = len(mine.labels) / len(batch.labels)
        self._network.step(*mine, share=share, ready=ready)

    def _reduce(self) -> None:
        from mpi4py import MPI

        self._comm.Allreduce(MPI.IN_PLACE, self._network.gradients.flat)

    def _timed(self, step: Callable[[], object]) -> None:
        began = time.perf_counter()
        step()
        self._communicating += time.perf_counter() - began

    def threads(self) -> Mapping[str, int]:
        """The threads that each operator asks for, beside what the pools could give."""
        return {**super().threads(), "asked": self._asked}

    @property
    def facts(self) -> Mapping[str, float]:
        """What the last call spent in MPI on rank 0, and what an Allreduce alone takes."""
        share = self._communicating / self._seconds if self._seconds else 0.0
        return {"mpi_share": round(share, 4), **self._alone}


class OverlapTrainer(MpiTrainer):
    """Reduces the dense layers' gradients while the convolutions' are computed.

    MPI moves data while it is called, and otherwise only where it has a thread of its own, so the
    request is tested between the layers. Whether anything was hidden is for the times to say.
    """

    def _gradients(self, batch: Batch) -> NDArray:
        self._requests: list[Request] = []
        self._own_gradients(batch, ready=self._ready)
        self._timed(self._finish)
        return self._network.gradients.flat

    def __enter__(self) -> OverlapTrainer:
        super().__enter__()
        gradients = self._network.gradients
        dense = gradients.layer("fc2").size + gradients.layer("fc1").size
        self._parts = {"fc1": gradients.flat[:dense], "conv1": gradients.flat[dense:]}
        return self

    def _ready(self, layer: str) -> None:
        if layer in self._parts:
            self._timed(lambda: self._start(self._parts[layer]))
        for request in self._requests:
            self._timed(request.Test)

    def _start(self, part: NDArray) -> None:
        from mpi4py import MPI

        self._requests.append(self._comm.Iallreduce(MPI.IN_PLACE, part))

    def _finish(self) -> None:
        from mpi4py import MPI

        MPI.Request.Waitall(self._requests)


class IndependentTrainer(MpiTrainer):
    """As many copies of the same work as there are ranks, with nothing between them."""

    def _gradients(self, batch: Batch) -> NDArray:
        self._network.step(*share_of(batch, self._comm.rank, self._comm.size))
        return self._network.gradients.flat


def probe(comm: Intracomm, like: NDArray) -> Mapping[str, float]:
    """What an Allreduce of as many bytes takes alone, and its bus bandwidth beside a plain copy's.

    The bus bandwidth is 2 (n - 1) / n x bytes / seconds, what a ring has to move through each
    rank's link (NVIDIA, nccl-tests, PERFORMANCE.md); the copy is counted once, as bytes copied.
    """
    from mpi4py import MPI

    if comm.size == 1:
        return {}
    here, there = np.zeros_like(like), np.zeros_like(like)

    def median(step: Callable[[], object]) -> float:
        taken = []
        for _ in range(PROBES):
            comm.Barrier()
            began = time.perf_counter()
            step()
            taken.append(comm.allreduce(time.perf_counter() - began, MPI.MAX))
        return float(np.median(taken))

    reduced = median(lambda: comm.Allreduce(MPI.IN_PLACE, here))
    copied = median(lambda: np.copyto(there, here))
    bus = 2 * (comm.size - 1) / comm.size * like.nbytes / reduced
    return {
        "allreduce_ms": round(reduced * 1e3, 3),
        "bus_gb_s": round(bus / 1e9, 2),
        "copy_gb_s": round(like.nbytes / copied / 1e9, 2),
    }
