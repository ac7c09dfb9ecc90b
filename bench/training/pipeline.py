"""The network cut into two stages on two processes: one batch at a time, or a pipeline of it.

model_parallel   stage 0 computes, sends what came out, and waits for its gradient: one works at a
                 time, and what is gained is memory alone
pipeline         the batch in micro-batches by `torch.distributed.pipelining`: while stage 1 works
                 on one, stage 0 works on the next. GPipe does all forwards before the backwards;
                 1F1B takes turns, and keeps fewer activations

The CIFAR CNN is cut behind its first pooling. By multiplications that is 1 : 10, and behind the
second one 5 : 1; but stage 0 has the large images, whose relu and pooling cost as much as a
convolution. In time, forward and backward of a batch of 32 on one thread, the shares are 42 and
58 %, where the second pooling gives 85 and 15 %.

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
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from bench.training.torch_trainer import load_torch, optimizer_of, state_of, weights_of
from bench.training.trainer import Arrays, Batch, State, Task, finite
from models import InputError

STAGES = 2
CUTS: Mapping[str, str] = {"cifar_cnn": "conv2"}
"""Network -> the first layer of stage 1."""
SCHEDULES = ("gpipe", "1f1b")
IGNORED = -100
"""A label that `cross_entropy` counts as nothing, by default."""


def stage_of(task: Task, network: nn.Module, rank: int) -> nn.Sequential:
    """The layers of one of the two stages; raises InputError for a network that cannot be cut."""
    if task.network not in CUTS:
        raise InputError(
            f"{task.network} is not cut into stages: batch norm would see micro-batches instead "
            f"of the whole batch; allowed: {', '.join(CUTS)}"
        )
    layers = dict(network.named_children())
    cut = list(layers).index(CUTS[task.network])
    taken = list(layers.items())[cut:] if rank else list(layers.items())[:cut]
    stage = nn.Sequential()
    for name, layer in taken:
        stage.add_module(name, layer)
    return stage


def micro_batches_of(whole: int, micro_batches: int) -> int:
    """Images of a micro-batch, the last ones perhaps filled up."""
    return -(-whole // micro_batches)


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
        self._settings = task.settings
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
            way = self._one_batch if self._schedule is None else self._pipelined(n)
            self._ways[n] = way
        self._optimizer.zero_grad()
        loss = self._ways[n](batch)
        self._optimizer.step()
        return loss

    def _one_batch(self, batch: Batch) -> float:
        if self._rank == 0:
            out = self._network(self._images(batch))
            shape = torch.tensor(out.shape)
            dist.send(shape, dst=1)
            dist.send(out.detach(), dst=1)
            gradient = torch.empty_like(out)
            dist.recv(gradient, src=1)
            out.backward(gradient)
            return 0.0
        shape = torch.empty(4, dtype=torch.int64)
        dist.recv(shape, src=0)
        given = torch.empty(*shape.tolist(), dtype=self._dtype, requires_grad=True)
        with torch.no_grad():
            dist.recv(given, src=0)
        loss = mean_over(len(batch.labels), self._network(given), self._labels(batch))
        loss.backward()
        dist.send(given.grad, dst=0)
        return loss.item()
