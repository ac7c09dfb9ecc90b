"""Worker processes that train together, started once a session and told what to do through pipes.

A spawned worker imports torch for seconds. So a pool keeps its workers, and an arm makes a team of
the first few: they join a process group, train, and leave it; the others sleep. Weights and batches
lie in memory that all see, and the parent reads the weights where they are trained. Batches are
handed over when they are new, and then only named.

A worker that raises, dies or does not go on ends the whole pool, with an error that says which one
and why; the next team starts another. What a worker does is in `worker`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray

from bench.thread_workers import largest
from bench.training.members import Member, WorkerError, answers
from bench.training.networks import build
from bench.training.process_group import TIMEOUT, host_store
from bench.training.shared_arrays import Forms, SharedArrays
from bench.training.trainer import Arrays, Batch, State, Task
from bench.training.worker import PROGRESS, TOLD, Make, Role

START_SECONDS = 300.0
T = TypeVar("T")


class Pool(AbstractContextManager["Pool"]):
    """Workers with `threads` intra-op threads each, started as teams need them."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._workers: list[Member] = []

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pids(self) -> list[int]:
        """Of all workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def workers(self, size: int) -> list[Member]:
        """The first `size`, started where they are not there yet."""
        new = [Member(self._threads) for _ in range(size - len(self._workers))]
        self._workers += new
        try:
            for worker, threads in zip(new, answers(new, START_SECONDS, "start"), strict=True):
                worker.threads = threads
        except BaseException:
            self.end()
            raise
        return self._workers[:size]

    def end(self) -> None:
        """Kill all workers: idle ones have nothing to lose, and others may hang."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
            worker.pipe.close()
        self._workers = []

    def team(
        self, size: int, make: Make, task: Task, *, timeout: float = TIMEOUT, **options: Any
    ) -> Team:
        """`size` workers that train by `make(task, network, **options)`; see `Team`."""
        return Team(self, size, make, task, timeout=timeout, **options)


class Team(AbstractContextManager["Team"]):
    """A Trainer whose steps are made by `size` workers together.

    timeout: seconds without a step after which a call ends.
    dtype: of the weights; torch.float32 or torch.float64.
    device: "cpu", over gloo, or "cuda", a GPU for each over nccl.

    Raises WorkerError for what goes wrong in a worker, DivergedError and InputError as they are.
    """

    def __init__(
        self,
        pool: Pool,
        size: int,
        make: Make,
        task: Task,
        *,
        timeout: float = TIMEOUT,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        **options: Any,
    ) -> None:
        self._pool, self._size, self._timeout = pool, size, timeout
        self._make, self._task, self._dtype, self.device = make, task, dtype, device
        self._options = options
        self._batches: tuple[Batch, ...] = ()
        self._busy = True

    def __enter__(self) -> Team:
        self._members = self._pool.workers(self._size)
        self._store = host_store()
        try:
            with SharedArrays(forms_of(self._task, self._dtype, self._size)) as shared:
                self._weights = dict(shared.arrays)
                self._progress = self._weights.pop(PROGRESS)
                for rank, member in enumerate(self._members):
                    role = Role(self._store.port, rank, self._size, self._timeout, self.device)
                    member.tell("join", role, self._make, self._task, self._dtype, self._options)
                    member.hand(shared)
                self._hear("join")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._busy:  # left in the middle of a step, or after a fault
            self._pool.end()
        else:
            self._ask("leave")
        del self._store

    def load(self, state: State) -> None:
        """Copy weights and buffers."""
        for name, array in self._weights.items():
            array[...] = state.weights[name]
        self._ask("load", state.buffers, state.steps)

    def train(self, batches: Sequence[Batch]) -> list[float]:
        """A step for each batch; a batch that was trained on before must not have changed since."""
        if not _same(batches, self._batches):
            self.hand_over(batches)
        return self._ask("train")[0]

    def hand_over(self, batches: Sequence[Batch]) -> None:
        """Lay them where the workers see them; the next `train` would do it otherwise."""
        with SharedArrays(_named(batches, lambda array: (array.dtype.name, array.shape))) as shared:
            for name, array in _named(batches, lambda array: array).items():
                shared.arrays[name][...] = array
            for member in self._members:
                member.tell("take", len(batches))
                member.hand(shared)
            self._hear("take")
        self._batches = tuple(batches)

    def weights(self) -> Arrays:
        """The memory in which rank 0, or every stage, trains them; copied there from a GPU."""
        if self.device != "cpu":
            self._ask("publish")
        return self._weights

    def states(self) -> list[State]:
        """Copies of what each rank has: all of it, or its part."""
        return self._ask("state")

    def state(self) -> State:
        """Copies; where ranks have the same thing, rank 0's."""
        states = self.states()
        merged: list[dict[str, NDArray]] = [{}, {}]
        for state in reversed(states):
            for into, arrays in zip(merged, (state.weights, state.buffers), strict=True):
                into.update(arrays)
        return State(*merged, states[0].steps)

    @property
    def facts(self) -> Mapping[str, float | int | str]:
        """What the trainers found out beside the time, as rank 0 tells it."""
        return self._ask("facts")[0]

    def threads(self) -> Mapping[str, int]:
        """The largest count of each thread pool, as the workers read it."""
        return largest([member.threads for member in self._members])

    def _ask(self, command: str, *words: Any) -> list[Any]:
        self._busy = True
        for member in self._members:
            member.tell(command, *words)
        return self._hear(command)

    def _hear(self, command: str) -> list[Any]:
        """Of all ranks; only then others than this command may be told."""
        self._busy = True
        try:
            heard = answers(self._members, self._timeout, command, self._progress)
        except WorkerError:
            self._pool.end()
            raise
        self._busy = False
        for answer in heard:
            if isinstance(answer, TOLD):
                raise answer
        return heard


def forms_of(task: Task, dtype: torch.dtype, size: int) -> Forms:
    """What a team shares: the weights, and a count of steps for each rank."""
    with torch.device("meta"):  # its weights are of no interest, and would take time
        network = build(task.network, task.classes).to(dtype)
    forms = {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in network.state_dict().items()
    }
    return {**forms, PROGRESS: ("int64", (size,))}


def _same(batches: Sequence[Batch], others: Sequence[Batch]) -> bool:
    """Whether they are the very same arrays."""
    return len(batches) == len(others) and all(
        a.images is b.images and a.labels is b.labels for a, b in zip(batches, others, strict=True)
    )


def _named(batches: Sequence[Batch], of: Callable[[NDArray], T]) -> dict[str, T]:
    return {
        f"{field}/{i}": of(array)
        for i, batch in enumerate(batches)
        for field, array in batch._asdict().items()
    }
