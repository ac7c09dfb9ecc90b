"""DistributedDataParallel: each rank takes its share of every batch, and gradients are averaged.

Shares are as equal as can be, and a short batch leaves some ranks with fewer images, or none. DDP
takes the plain mean over ranks, so each rank's loss is that of its images' sum times ranks / images
of the whole batch: the mean over ranks is then the whole batch's mean, exactly.

Batch norm is as DDP has it: each rank normalises by its own share's statistics, and rank 0's
running ones count. With more than one rank such a network's weights are not those of a single
process. `sync_batch_norm` takes the whole batch's statistics instead; torch has it on GPUs alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from statistics import median
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from bench.training.torch_trainer import load_torch, optimizer_of, state_of, weights_of
from bench.training.trainer import Arrays, Batch, State, Task, finite, share_of
from models import InputError

REPEATS = 3
"""Of a step, for the facts, after as many that warm up."""
T = TypeVar("T")


def check_ranks(task: Task, size: int) -> None:
    """Raise InputError where not every rank gets an image of a whole batch."""
    whole = task.settings.batch_size
    if whole < size:
        raise InputError(
            f"--batch-size {whole}: too few images for {size} ranks to share; allowed: {size} or "
            f"more, or ask for fewer ranks"
        )


class DdpTrainer(AbstractContextManager["DdpTrainer"]):
    """One rank; the default process group has to be there, and all ranks do the same calls.

    `network` is trained where it lies. Raises InputError for a batch size below the ranks, and for
    `sync_batch_norm` without CUDA.
    """

    parts = False
    """Whether each rank trains a part of the network; here each has all of it."""

    def __init__(
        self, task: Task, network: nn.Module, *, device: str = "cpu", sync_batch_norm: bool = False
    ) -> None:
        self._rank, self._size = dist.get_rank(), dist.get_world_size()
        check_ranks(task, self._size)
        if sync_batch_norm and device != "cuda":
            raise InputError(
                "batch norm over all ranks' images needs CUDA in torch; on CPUs train without "
                "sync_batch_norm, each rank normalising by its own images"
            )
        if sync_batch_norm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self._norms = any(isinstance(module, _BatchNorm) for module in network.modules())
        self._settings = task.settings
        self._device = torch.device(device, self._rank if device == "cuda" else None)
        self._network = network.to(self._device)
        self._ddp = DistributedDataParallel(self._network, gradient_as_bucket_view=True)
        self._optimizer = optimizer_of(self._network, task.settings)
        self._dtype = next(network.parameters()).dtype
        self._steps = 0
        self._last: Batch | None = None

    def __exit__(self, *_: object) -> None:
        """The process group is its owner's."""

    def load(self, state: State) -> None:
        """Copy weights and buffers."""
        load_torch(state, self._network, self._optimizer)
        self._steps = state.steps

    def train(self, batches: Iterable[Batch]) -> list[float]:
        """A step for each whole batch.

        The ranks' losses are added up once, at the end; DivergedError comes then, and on all ranks.
        Raises InputError where batch norm has a rank without an image.
        """
        before = self._steps
        shares = torch.tensor([self._step(batch) for batch in batches], dtype=torch.float64)
        losses = shares.to(self._device)
        dist.all_reduce(losses)
        return [
            finite(loss, step, self._settings)
            for step, loss in enumerate((losses / self._size).tolist(), start=before + 1)
        ]

    def _step(self, batch: Batch) -> float:
        self._steps += 1
        self._last = batch
        loss = self._loss(self._ddp, *self._share(batch), len(batch.labels))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def _share(self, batch: Batch) -> tuple[Tensor, Tensor]:
        n = len(batch.labels)
        if self._norms and n < self._size:
            raise InputError(
                f"a batch of {n} images leaves some of {self._size} ranks without one, which batch "
                f"norm cannot normalise; choose a --batch-size that leaves a larger rest"
            )
        images, labels = map(torch.from_numpy, share_of(batch, self._rank, self._size))
        return images.to(self._device, self._dtype), labels.to(self._device)

    def _loss(self, network: nn.Module, images: Tensor, labels: Tensor, whole: int) -> Tensor:
        return F.cross_entropy(network(images), labels, reduction="sum") * (self._size / whole)

    def weights(self) -> Arrays:
        """Views where the network is on the CPU; every rank has the same."""
        return weights_of(self._network)

    def state(self) -> State:
        """Copies."""
        return state_of(self._network, self._optimizer, self._steps)

    @property
    def facts(self) -> Mapping[str, float | int]:
        """Where a step's time goes: milliseconds, the slowest rank's, on the last batch.

        Backward without and with the gradients' reduction, and the same bytes reduced on their own:
        what the reduction costs, and how much of it the backward pass hides. Changes no weight.
        """
        if self._last is None:
            return {}
        images, labels = self._share(self._last)
        whole = len(self._last.labels)
        gradients = torch.zeros(sum(p.numel() for p in self._network.parameters()))
        gradients = gradients.to(self._device, self._dtype)
        rounds: list[list[float]] = []
        for _ in range(REPEATS * 2):
            with self._ddp.no_sync():
                forward, loss = self._timed(lambda: self._loss(self._ddp, images, labels, whole))
                backward, _ = self._timed(loss.backward)
            loss = self._loss(self._ddp, images, labels, whole)
            synced, _ = self._timed(loss.backward)
            reduced, _ = self._timed(lambda: dist.all_reduce(gradients))
            self._optimizer.zero_grad()
            rounds.append([forward, backward, synced, reduced])
        slowest = torch.tensor([median(each) for each in zip(*rounds[REPEATS:], strict=True)])
        slowest = slowest.to(self._device)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        names = ("forward_ms", "backward_ms", "backward_with_allreduce_ms", "allreduce_alone_ms")
        told = {name: round(1e3 * s, 3) for name, s in zip(names, slowest.tolist(), strict=True)}
        return told | {"gradient_mb": gradients.numel() * gradients.element_size() / 1e6}

    def _timed(self, step: Callable[[], T]) -> tuple[float, T]:
        dist.barrier()
        start = time.perf_counter()
        made = step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, made
