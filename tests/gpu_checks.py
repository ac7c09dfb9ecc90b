"""What the tests of the operators on GPUs share: an operator on arrays, wherever it runs.

By default the sources run on the host grid. `--device cuda` or `--device mps` runs them on that
device instead, which has to be there, and skips those of the other.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.gpu.host import HostGrid
from kernels.gpu.implementations import IMPLEMENTATIONS, Implementation
from kernels.registry import OPERATORS
from tests.kernel_checks import tensor

NAMES = [name for name, chosen in IMPLEMENTATIONS.items() if isinstance(chosen, Implementation)]
PARALLEL = [name for name in NAMES if not IMPLEMENTATIONS[name].sequential]

each_gpu = pytest.mark.parametrize("implementation", NAMES)
each_parallel = pytest.mark.parametrize("implementation", PARALLEL)


class OnArrays:
    """An operator on tensors, called with arrays in any memory, returning arrays."""

    def __init__(self, on_device):
        self.on_device = on_device
        self.kind = on_device.kind

    def forward(self, *args, **kwargs):
        return self._called(self.on_device.forward, args, kwargs)

    def backward(self, *args, **kwargs):
        return self._called(self.on_device.backward, args, kwargs)

    def _called(self, function, args, kwargs):
        args = [self._given(value) for value in args]
        kwargs = {name: self._given(value) for name, value in kwargs.items()}
        result = function(*args, **kwargs)
        return tuple(map(_array, result)) if isinstance(result, tuple) else _array(result)

    def _given(self, value):
        return tensor(value).contiguous().to(self.kind) if isinstance(value, np.ndarray) else value


def _array(value):
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value


class Gpu:
    """The fixture `gpu`: gpu("relu", "cuda") is relu by relu.cu, on arrays."""

    def __init__(self, asked, folder):
        self._asked = asked
        self._folder = folder
        self._grids = {}

    def __call__(self, operator, implementation):
        """Skips with the reason where it cannot run."""
        chosen = IMPLEMENTATIONS[implementation]
        device = self._host(chosen.language) if self._asked is None else chosen.device()
        if self._asked not in (None, device.kind):
            pytest.skip(f"{implementation} does not run on --device {self._asked}")
        reason = device.unavailable_reason()
        if reason is not None:
            (pytest.skip if self._asked is None else pytest.fail)(reason)
        return OnArrays(OPERATORS[operator].on_device(device, sequential=chosen.sequential))

    def _host(self, language):
        if language not in self._grids:
            self._grids[language] = HostGrid(language, self._folder)
        return self._grids[language]


def make_gpu(config):
    """What the fixture is made of: pytest's cache keeps what g++ compiled, by its content."""
    asked = config.getoption("--device")
    asked = None if asked in (None, "cpu", "all") else asked
    return Gpu(asked, Path(config.cache.mkdir("host_grid")))


def poisoned(monkeypatch):
    """Let what the operators make room for hold NaN, so that what is left unwritten shows."""
    made = torch.Tensor.new_empty

    def new_empty(self, *args, **kwargs):
        result = made(self, *args, **kwargs)
        return result.fill_(float("nan")) if result.is_floating_point() else result.fill_(-77)

    monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)


def hosted(config, monkeypatch):
    """Let `kernels.get` run the source implementations on the host grid, as if that were a GPU.

    Skips with the reason where there is none.
    """
    folder = Path(config.cache.mkdir("host_grid"))
    for name in NAMES:
        chosen = IMPLEMENTATIONS[name]
        grid = HostGrid(chosen.language, folder)
        reason = grid.unavailable_reason()
        if reason is not None:
            pytest.skip(reason)
        here = dataclasses.replace(chosen, device=lambda grid=grid: grid)
        monkeypatch.setitem(IMPLEMENTATIONS, name, here)
