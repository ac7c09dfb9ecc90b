"""torch.distributed for as long as a strategy needs it: joined without a fixed port, then left.

One rank, or the parent of all, hosts the store through which they find each other. It takes a port
that is free, so that no port can be in use; the others are told its address.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

LOOPBACK = "127.0.0.1"
TIMEOUT = 60.0
"""Seconds that a collective waits for a rank."""


def host_store(host: str = LOOPBACK) -> dist.TCPStore:
    """A store on a free port of this machine; gone with its last reference."""
    return dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)


def absence_of_gpus(processes: int) -> str | None:
    """Why `processes` ranks cannot have a CUDA device each; None where they can."""
    there = torch.cuda.device_count()
    return None if there >= processes else f"needs {processes} CUDA devices, here are {there}"


@contextmanager
def joined(
    store: dist.Store,
    rank: int,
    size: int,
    *,
    device: str = "cpu",
    timeout: float = TIMEOUT,
    local: bool = True,
) -> Iterator[None]:
    """Be a rank of the default process group: gloo on "cpu", nccl on "cuda", a GPU for each rank.

    `local`: all ranks are on this machine, and need no other network than its own loopback.
    """
    if device == "cuda":
        torch.cuda.set_device(rank)
    with _over_loopback() if local else _as_it_is():
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def joined_over(comm: Intracomm) -> Iterator[None]:
    """Be the rank that one is in an MPI communicator; its hosts may be several."""
    from mpi4py import MPI

    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    local = comm.allreduce(here.size, MPI.MIN) == comm.size
    here.Free()
    hosted = address = None
    if comm.rank == 0:
        host = LOOPBACK if local else socket.gethostname()
        hosted = host_store(host)
        address = host, hosted.port
    host, port = comm.bcast(address)
    store = hosted or dist.TCPStore(host, port, is_master=False)
    with joined(store, comm.rank, comm.size, local=local):
        yield
    comm.Barrier()  # the store is hosted until nobody asks it any more


@contextmanager
def _over_loopback() -> Iterator[None]:
    """Gloo looks the machine's own name up otherwise, which not every machine can."""
    name = "GLOO_SOCKET_IFNAME"
    before = os.environ.get(name)
    os.environ.setdefault(name, "lo0" if sys.platform == "darwin" else "lo")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield
