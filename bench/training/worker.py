"""A worker process: it answers the commands that come through its pipe until that ends.

Ctrl-C is for the parent, so a worker ignores it; and it ends with the parent, also when that is
killed while the worker trains.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from bench.lifetime import end_with_parent
from bench.training.networks import build
from bench.training.process_group import LOOPBACK, joined
from bench.training.shared_arrays import receive
from bench.training.trainer import Batch, DivergedError, State, Task, Trainer
from models import InputError
from pytest_speedup.machine import pool_threads

TOLD = (DivergedError, InputError)
"""What all ranks raise alike and can go on from."""
PROGRESS = "steps made"
"""The name of the array that counts them, one for each rank."""

Make = Callable[..., Trainer]
"""`make(task, network, **options)` within a process group -> one rank; see `ddp.DdpTrainer`."""


@dataclass(frozen=True)
class Role:
    """Who one is in a process group, and where its store is."""

    port: int
    rank: int
    size: int
    timeout: float
    """Seconds without a step after which the parent gives up."""
    device: str


@dataclass(frozen=True)
class Raised:
    """What a worker could not go on from."""

    text: str
    """The traceback."""
    after: float
    """Seconds of the step, or of a command without steps."""


def serve(pipe: Connection, threads: int) -> None:
    """Until the parent closes the pipe, or ends."""
    end_with_parent()
    torch.set_num_threads(threads)
    pipe.send(("done", pool_threads()))
    member = _Member(pipe)
    while True:
        try:
            command, words = pipe.recv()
        except EOFError:
            return
        member.since = time.monotonic()
        try:
            answer = "done", getattr(member, command)(*words)
        except TOLD as error:
            answer = "done", error
        except Exception:
            waited = time.monotonic() - member.since
            answer = "raised", Raised(traceback.format_exc(), waited)
        pipe.send(answer)


class _Member:
    """What a worker can be told; see `workers.Team`."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.since = 0.0
        """When the command, or its latest step, began."""
        self._joined = ExitStack()
        self._trainer: Trainer | None = None

    def join(
        self,
        role: Role,
        make: Make,
        task: Task,
        dtype: torch.dtype,
        options: Mapping[str, Any],
    ) -> None:
        self._arrays = receive(self._pipe)
        self._progress, self._rank = self._arrays.pop(PROGRESS), role.rank
        network = build(task.network, task.classes).to(dtype)
        parts = getattr(make, "parts", False)
        self._publishes = parts or role.rank == 0
        if self._publishes and role.device == "cpu":
            _lay_into(network, self._arrays)
        store = dist.TCPStore(LOOPBACK, role.port, is_master=False)
        self._joined.enter_context(
            # A rank that waits for another gives up before the parent does, and so tells them apart
            joined(store, role.rank, role.size, device=role.device, timeout=role.timeout / 2)
        )
        on_gpu = {} if role.device == "cpu" else {"device": role.device}
        self._trainer = self._joined.enter_context(make(task, network, **on_gpu, **options))

    def leave(self) -> None:
        self._trainer = None
        self._joined.close()
        self._batches = []
        self._arrays = {}
        gc.collect()  # closes what the process group had open

    def load(self, buffers: Mapping[str, NDArray], steps: int) -> None:
        self._trainer.load(State(self._arrays, buffers, steps))

    def take(self, batches: int) -> None:
        arrays = receive(self._pipe)
        self._batches = [
            Batch(arrays[f"images/{i}"], arrays[f"labels/{i}"]) for i in range(batches)
        ]

    def train(self) -> list[float]:
        return self._trainer.train(self._counted())

    def _counted(self) -> Iterator[Batch]:
        for batch in self._batches:
            self._progress[self._rank] += 1
            self.since = time.monotonic()
            yield batch

    def publish(self) -> None:
        if self._publishes:
            for name, array in self._trainer.weights().items():
                self._arrays[name][...] = array

    def state(self) -> State:
        return self._trainer.state()

    def facts(self) -> Mapping[str, float | int | str]:
        return getattr(self._trainer, "facts", {})


def _lay_into(network: nn.Module, arrays: Mapping[str, NDArray]) -> None:
    """Let the network's weights be these."""
    for name, tensor in network.state_dict(keep_vars=True).items():
        tensor.data = torch.from_numpy(arrays[name])
