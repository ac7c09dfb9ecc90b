"""Automatic mixed precision: convolutions and products in fewer bits, weights and sums in float32.

bfloat16   8 bits of precision and float32's range; fast where the CPU has instructions for it
float16    11 bits, but numbers below 6e-8 are 0: the loss is scaled up so that gradients are not,
           and they are scaled down again. A step whose gradients overflow is left out

Weights are no longer float32's up to rounding, so another bound holds: by how much the whole
change of all weights, over the few steps of a call, differs from float32's, in the Euclidean norm.
bfloat16 was off by 3 to 10 % with SGD, for rates of 0.01 and 0.1 and batches of 4 to 128, and by 15
to 17 % with Adam, whose first steps are as large for a small gradient as for a large one. Wrong
runs: the labels of one batch of four in another order, 43 % or more; a step left out, 30 % (Adam:
21 %); a rate that is 10 % off, 18 % (14 %). What is allowed lies between, so that with SGD it finds
all of these and with Adam the first. No single array may be off by half, as one would be that was
not trained; the worst was by a quarter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.training.problem import Problem, distance
from bench.training.torch_trainer import TorchTrainer
from bench.training.trainer import Arrays, Batch, Task, finite

ALLOWED = {"sgd": 0.15, "adam": 0.25}
"""Of all weights' change together."""
ALLOWED_ARRAY = 0.5
"""Of a single array's."""
SCALE = 2.0**8
"""That float16 begins with. torch's 2**16 overflows here, and it finds a smaller one by leaving
steps out: the few of a call would be no training."""


def reduced_precision(problem: Problem) -> Callable[[Arrays], Mapping[str, float | str]]:
    """A check for weights that were trained in fewer bits; see the module's docstring."""
    allowed = ALLOWED[problem.task.settings.optimizer]

    def check(weights: Arrays) -> Mapping[str, float | str]:
        assert weights.keys() == problem.reference.keys()
        off = {}
        for name, wanted in problem.reference.items():
            actual = weights[name]
            assert actual.shape == wanted.shape, f"{name}: {actual.shape}, wanted {wanted.shape}"
            assert actual.dtype == wanted.dtype, f"{name}: {actual.dtype}, wanted {wanted.dtype}"
            off[name] = distance(actual, wanted)
            most = ALLOWED_ARRAY * problem.changes[name]
            assert off[name] <= most, f"{name} is off by {off[name]:.3g}, allowed {most:.3g}"
        whole = math.hypot(*off.values()) / math.hypot(*problem.changes.values())
        assert whole <= allowed, f"the weights' change is off by {whole:.3g}, allowed {allowed}"
        return {"change_error": round(whole, 4), "tolerance": f"L2 {allowed} of the change"}

    return check


class AmpTrainer(TorchTrainer):
    """Whole batches under autocast to `precision`; "cpu" with intra-op threads, or "cuda"."""

    def __init__(
        self,
        task: Task,
        threads: int,
        *,
        precision: torch.dtype = torch.bfloat16,
        device: str = "cpu",
    ) -> None:
        super().__init__(task, threads)
        self.device = device
        self._precision = precision
        self._network.to(device)
        self._scaler = torch.amp.GradScaler(device, SCALE, enabled=precision is torch.float16)

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, labels = super()._tensors(batch)
        return images.to(self.device), labels.to(self.device)

    def _step(self, images: Tensor, labels: Tensor) -> float:
        self._steps += 1
        self._optimizer.zero_grad()
        with torch.autocast(self.device, self._precision):
            loss = F.cross_entropy(self._network(images), labels)
        self._scaler.scale(loss).backward()
        value = finite(loss.item(), self._steps, self._settings)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return value
