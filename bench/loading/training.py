"""The training that the images are for: one epoch of steps, whoever loads their batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor

from bench.loading.epoch import Batch, Load
from bench.training.settings import Settings
from bench.training.torch_trainer import optimizer_of

NETWORK = "shufflenet_v2_x0_5"
"""The quickest of torchvision's on a CPU: of others, training alone would take nearly all time."""
SEED = 0


class Training:
    """Trains a network from the same weights in every epoch; on all of torch's threads."""

    def __init__(self, classes: int, settings: Settings) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            self._network = torchvision.models.get_model(NETWORK, num_classes=classes)
        self._optimizer = optimizer_of(self._network, settings)
        self._start = copy.deepcopy((self._network.state_dict(), self._optimizer.state_dict()))

    def restart(self) -> None:
        """Weights, statistics and the optimizer's buffers as they were in the beginning."""
        network, optimizer = copy.deepcopy(self._start)
        self._network.load_state_dict(network)
        self._optimizer.load_state_dict(optimizer)

    def epoch(self, batches: Iterable[Batch]) -> Mapping[str, Tensor]:
        """A whole step on each batch; returns the weights and statistics then."""
        self._network.train()
        for images, labels in batches:
            self._optimizer.zero_grad()
            F.cross_entropy(self._network(images), labels).backward()
            self._optimizer.step()
        return {name: value.clone() for name, value in self._network.state_dict().items()}

    def on(self, load: Load) -> Callable[[], Mapping[str, Tensor]]:
        """An epoch on what is loaded meanwhile, as a function to be timed."""
        return lambda: self.epoch(load())
