"""The network cut into two stages on two processes: one batch at a time, or a pipeline of it.

model_parallel   stage 0 computes, sends what came out, and waits for its gradient: one works at a
                 time, and what is gained is memory alone
pipeline         the batch in micro-batches by `torch.distributed.pipelining`: while stage 1 works
                 on one, stage 0 works on the next. GPipe does all forwards before the backwards;
                 1F1B takes turns, and keeps fewer activations

The CIFAR CNN is cut behind its first pooling. By multiplications that is 1 : 10, and behind the
second one 5 : 1; but stage 0 has the large images, whose relu and pooling cost more than their
convolution. In time, forward and backward of a batch of 32 on one thread, the shares are 42 and
58 %, where the second pooling gives 83 and 17 %.

The loss is the sum over a micro-batch's images / images of the whole batch, so that gradients add
up to those of the whole batch's mean; torch must not scale them once more. Where micro-batches do
not divide a batch, it is filled up by images whose label is `IGNORED`: they cost time and add 0.

Batch norm would see the statistics of a micro-batch, or of filling images, instead of the batch's:
such networks are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from bench.training.torch_trainer import load_torch, optimizer_of, state_of, weights_of
from bench.training.trainer import Arrays, Batch, State, Task, finite
from models import InputError

STAGES = 2


class Cut(NamedTuple):
    """Where a network is cut."""

    before: str
    """The first layer of stage 1."""
    between: tuple[int, ...]
    """Shape of what it is given for an image."""


CUTS: Mapping[str, Cut] = {"cifar_cnn": Cut("conv2", (32, 16, 16))}
SCHEDULES = ("gpipe", "1f1b")
IGNORED = -100
"""A label that `cross_entropy` counts as nothing, by default."""


def stage_of(task: Task, network: nn.Module, rank: int) -> nn.Sequential:
    """The layers of one of the two stages."""
    layers = dict(network.named_children())
    cut = list(layers).index(CUTS[task.network].before)
    taken = list(layers.items())[cut:] if rank else list(layers.items())[:cut]
    stage = nn.Sequential()
    for name, layer in taken:
        stage.add_module(name, layer)
    return stage


def check_schedule(task: Task, micro_batches: int, schedule: str | None, ranks: int) -> None:
    """Raise InputError for what no two stages can do."""
    if task.network not in CUTS:
        raise InputError(
            f"{task.network} is not cut into stages: its batch norm would see a micro-batch "
            f"instead of the whole batch; allowed: {', '.join(CUTS)}"
        )
    if ranks != STAGES:
        raise InputError(f"the network is cut into {STAGES} stages, got {ranks} ranks for them")
    if schedule not in (None, *SCHEDULES):
        raise InputError(f"schedule must be None or {' or '.join(SCHEDULES)}; got {schedule!r}")
    if schedule is None and micro_batches != 1:
        raise InputError(f"model parallel takes one micro-batch, got {micro_batches}")
    if schedule == "1f1b" and micro_batches < STAGES:
        raise InputError(f"1f1b takes turns from {STAGES} micro-batches on, got {micro_batches}")
    if task.settings.batch_size < micro_batches:
        raise InputError(
            f"--batch-size {task.settings.batch_size}: too few images for {micro_batches} "
            f"micro-batches; allowed: {micro_batches} or more"
        )


def mean_over(n: int, logits: Tensor, labels: Tensor) -> Tensor:
    """These images' part of the mean loss over `n`."""
    return F.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED) / n


class StageTrainer(AbstractContextManager["StageTrainer"]):
    """One stage, on the rank of its number in a process group of two; all do the same calls.

    `schedule` None is model parallel, which takes one micro-batch. Its layers of `network` are
    trained where they lie. Raises InputError for what cannot be cut.
    """

    parts = True
    """Whether each rank trains a part of the network."""

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        *,
        micro_batches: int = 1,
        schedule: str | None = None,
        device: str = "cpu",
    ) -> None:
        check_schedule(task, micro_batches, schedule, dist.get_world_size())
        self._rank = dist.get_rank()
        self._settings, self._between = task.settings, CUTS[task.network].between
        self._device = torch.device(device, self._rank if device == "cuda" else None)
        self._network = stage_of(task, network, self._rank).to(self._device)
        self._optimizer = optimizer_of(self._network, task.settings)
        self._dtype = next(network.parameters()).dtype
        self._micro_batches, self._schedule = micro_batches, schedule
        self._ways: dict[int, Callable[[Batch], float]] = {}
        self._steps = 0

    def __exit__(self, *_: object) -> None:
        """The process group is its owner's."""

    def load(self, state: State) -> None:
        """Copy this stage's weights and buffers."""
        load_torch(state, self._network, self._optimizer)
        self._steps = state.steps

    def train(self, batches: Iterable[Batch]) -> list[float]:
        """A step for each batch; stage 1 tells the losses once, at the end."""
        before = self._steps
        losses = torch.tensor([self._step(batch) for batch in batches], dtype=torch.float64)
        losses = losses.to(self._device)
        dist.broadcast(losses, src=STAGES - 1)
        return [
            finite(loss, step, self._settings)
            for step, loss in enumerate(losses.tolist(), start=before + 1)
        ]

    def _step(self, batch: Batch) -> float:
        """The whole batch's mean loss in stage 1, 0 in stage 0."""
        self._steps += 1
        n = len(batch.labels)
        if n not in self._ways:  # buffers and schedule fit one size
            self._ways[n] = (self._pipelined if self._schedule else self._one_batch)(n)
        self._optimizer.zero_grad()
        loss = self._ways[n](batch)
        self._optimizer.step()
        return loss

    def _one_batch(self, n: int) -> Callable[[Batch], float]:
        """Model parallel on batches of `n`."""

        def first(batch: Batch) -> float:
            out = self._network(self._images(batch, n))
            dist.send(out.detach(), dst=1)
            dist.recv(gradient, src=1)
            out.backward(gradient)
            return 0.0

        def last(batch: Batch) -> float:
            given = torch.empty_like(gradient)
            dist.recv(given, src=0)
            loss = mean_over(n, self._network(given.requires_grad_()), self._labels(batch, n))
            loss.backward()
            dist.send(given.grad, dst=0)
            return loss.item()

        between = (n, *self._between)
        gradient = torch.empty(between, dtype=self._dtype, device=self._device)
        return last if self._rank else first

    def _pipelined(self, n: int) -> Callable[[Batch], float]:
        """A schedule for batches of `n`."""
        stage = PipelineStage(self._network, self._rank, STAGES, self._device)
        kind = ScheduleGPipe if self._schedule == "gpipe" else Schedule1F1B
        schedule = kind(stage, self._micro_batches, partial(mean_over, n), scale_grads=False)
        filled = -(-n // self._micro_batches) * self._micro_batches

        def first(batch: Batch) -> float:
            schedule.step(self._images(batch, filled))
            return 0.0

        def last(batch: Batch) -> float:
            losses: list[Tensor] = []
            schedule.step(target=self._labels(batch, filled), losses=losses)
            return sum(loss.item() for loss in losses)

        return last if self._rank else first

    def _images(self, batch: Batch, filled: int) -> Tensor:
        images = torch.from_numpy(batch.images).to(self._device, self._dtype)
        return F.pad(images, (0, 0, 0, 0, 0, 0, 0, filled - len(images)))

    def _labels(self, batch: Batch, filled: int) -> Tensor:
        labels = torch.from_numpy(batch.labels).to(self._device)
        return F.pad(labels, (0, filled - len(labels)), value=IGNORED)

    def weights(self) -> Arrays:
        """Of this stage; views where it is on the CPU."""
        return weights_of(self._network)

    def state(self) -> State:
        """Copies of this stage's."""
        return state_of(self._network, self._optimizer, self._steps)
