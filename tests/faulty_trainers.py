"""Ranks that go wrong; a module of their own, which worker processes import by its name."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch.distributed as dist

from bench.training.ddp import DdpTrainer
from bench.training.trainer import Batch

FAULTS = ("raise", "kill", "hang")


class FaultyTrainer(DdpTrainer):
    """The last rank goes wrong in its second step, in one of the ways of `FAULTS`."""

    def __init__(self, *args: Any, fault: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._fault = fault

    def _step(self, batch: Batch) -> float:
        if dist.get_rank() == dist.get_world_size() - 1 and self._steps == 1:
            if self._fault == "raise":
                raise ZeroDivisionError("as it was to be")
            if self._fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1000)
        return super()._step(batch)
