"""PyTorch in one process, as most people train: forward, backward, `torch.optim`'s step.

`threads` are intra-op threads. With `channels_last` the network and its images have their channels
innermost, which convolutions on CPUs like better; a batch is turned within the timing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.inference.forward import torch_threads
from bench.training.networks import build
from bench.training.settings import Settings
from bench.training.trainer import Arrays, Batch, State, Task, copied, finite


def optimizer_of(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """`torch.optim`'s for all of the network's parameters."""
    if settings.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), settings.lr)
    return torch.optim.SGD(network.parameters(), settings.lr, settings.momentum)


class TorchTrainer(AbstractContextManager["TorchTrainer"]):
    """Trains on whole batches with `threads` intra-op threads; `dtype` float32 or float64."""

    _loss: Callable[[Tensor, Tensor], Tensor] = staticmethod(F.cross_entropy)

    def __init__(
        self,
        task: Task,
        threads: int,
        *,
        channels_last: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._settings = task.settings
        self._threads = threads
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._dtype = dtype
        self._network = build(task.network, task.classes).to(dtype, memory_format=self._format)
        self._optimizer = optimizer_of(self._network, task.settings)
        self._steps = 0

    def __enter__(self) -> TorchTrainer:
        with ExitStack() as stack:
            stack.enter_context(torch_threads(self._threads))
            self._left = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def load(self, state: State) -> None:
        """Copy weights and buffers."""
        load_torch(state, self._network, self._optimizer)
        self._steps = state.steps

    def train(self, batches: Sequence[Batch]) -> list[float]:
        """A step for each batch."""
        return [self._step(*self._tensors(batch)) for batch in batches]

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(batch.images).to(self._dtype, memory_format=self._format)
        return images, torch.from_numpy(batch.labels)

    def _step(self, images: Tensor, labels: Tensor) -> float:
        self._steps += 1
        self._optimizer.zero_grad()
        loss = self._loss(self._network(images), labels)
        loss.backward()
        value = finite(loss.item(), self._steps, self._settings)
        self._optimizer.step()
        return value

    def weights(self) -> Arrays:
        """Views."""
        return weights_of(self._network)

    def state(self) -> State:
        """Copies."""
        return state_of(self._network, self._optimizer, self._steps)


def weights_of(network: nn.Module) -> Arrays:
    """The state dict's tensors as arrays, which share their memory where that is a CPU's."""
    return {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}


def state_of(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> State:
    """A copy of both; buffers that torch has not made yet are left out."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    buffers = {
        f"{kind}/{names[parameter]}": value.cpu().numpy()
        for parameter, kept in optimizer.state.items()
        for kind, value in kept.items()
        if kind != "step" and isinstance(value, Tensor)
    }
    return State(copied(weights_of(network)), copied(buffers), steps)


@torch.no_grad()
def load_torch(state: State, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy a state into both."""
    for name, tensor in network.state_dict().items():
        tensor.copy_(torch.from_numpy(state.weights[name]))
    optimizer.state.clear()
    kinds = dict.fromkeys(key.split("/", 1)[0] for key in state.buffers)
    for name, parameter in network.named_parameters():
        for kind in kinds:
            buffer = torch.empty_like(parameter)  # in the parameter's memory format
            buffer.copy_(torch.from_numpy(state.buffers[f"{kind}/{name}"]))
            optimizer.state[parameter][kind] = buffer
        if kinds and isinstance(optimizer, torch.optim.Adam):
            optimizer.state[parameter]["step"] = torch.tensor(float(state.steps))
