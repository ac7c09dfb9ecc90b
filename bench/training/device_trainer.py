"""Training on one GPU, by torch's operators or by ours; weights and batches start on the host.

A batch is copied to the device within the timing, as it would be in a real run. The loss is read
after each step, which waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.training.networks import build
from bench.training.torch_trainer import TorchTrainer, optimizer_of
from bench.training.trainer import Batch, Task
from models.differentiable import cross_entropy, trainable


class DeviceTrainer(TorchTrainer):
    """Trains on `device`; by torch, or by an implementation of `kernels.device_names`.

    Raises InputError for an implementation that cannot run here.
    """

    def __init__(self, task: Task, device: str, implementation: str | None = None) -> None:
        super().__init__(task, threads=1)
        network = build(task.network, task.classes)
        if implementation is None:
            self._network = network.to(device)
        else:
            self._network = trainable(network, implementation)
            self._loss = cross_entropy(implementation)
        self._optimizer = optimizer_of(self._network, task.settings)
        self.device = next(self._network.parameters()).device.type

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, labels = torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
        return images.to(self.device), labels.to(self.device)
