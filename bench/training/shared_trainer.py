"""Data parallel training in memory that the ranks of one machine share: no gradient is sent.

Each rank's gradients lie in an MPI-3 shared memory window, and each rank adds them up itself, rank
0's first, in the optimizer's pass over them. There are two sets, used in turn, also across
`load`: a rank that is a step ahead does not write what others still read, and one barrier a step is
enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.training.mpi_trainer import MpiTrainer
from bench.training.trainer import Batch, DivergedError
from models import InputError
from models.numpy_cnn import WEIGHTS, buffer, over

if TYPE_CHECKING:
    from mpi4py.MPI import Win

LINE = 64
"""Bytes of a cache line, on which each rank's part begins."""


class SharedTrainer(MpiTrainer):
    """Trains with the ranks of one machine; entered on several, it raises InputError."""

    def __enter__(self) -> SharedTrainer:
        from mpi4py import MPI

        super().__enter__()
        here = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        together = here.size == self._comm.size
        here.Free()
        if not together:
            raise InputError(
                "mpi_shared: the ranks do not share one machine's memory; start them on one host, "
                "or leave the arm out"
            )
        dtype = self._network.weights.flat.dtype
        length = -(-(WEIGHTS + 1) * dtype.itemsize // LINE) * LINE
        self._windows = [
            MPI.Win.Allocate_shared(length, dtype.itemsize, comm=self._comm) for _ in range(2)
        ]
        self._sets = []
        self._turn = 0
        for window in self._windows:
            first, _ = window.Shared_query(0)  # the others' lie behind it, one after another
            memory = MPI.buffer.fromaddress(first.address, self._comm.size * length)
            self._sets.append(np.frombuffer(memory, dtype).reshape(self._comm.size, -1))
            window.Lock_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._network.gradients = buffer(extra=1)
        self._sets = []
        # Freeing is collective; ranks diverge together, after another error they may be elsewhere.
        if kind is None or issubclass(kind, DivergedError):
            for window in self._windows:
                window.Unlock_all()
                window.Free()

    def _gradients(self, batch: Batch) -> NDArray:
        turn = self._turn
        self._turn = 1 - turn
        rows = self._sets[turn]
        self._network.gradients = over(rows[self._comm.rank, : WEIGHTS + 1])
        self._own_gradients(batch)
        self._timed(lambda: self._meet(self._windows[turn]))
        return rows

    def _meet(self, window: Win) -> None:
        window.Sync()
        self._comm.Barrier()
        window.Sync()
