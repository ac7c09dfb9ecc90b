"""Is a whole network as fast on the operators by hand as torch's own, on a GPU?

    cpu_numba_threads, cpu_torch   the CPU with all its threads, for the device ratio
    cuda_sequential                one GPU thread an operator; the smallest network alone
    cuda, triton, metal            each layer an operator of `kernels`, asked for one by one; what
                                   triton has not, cuda does
    torch                          the network as it is, eager
    cuda_graph, torch_graph        the same launches, captured once as a CUDA graph: what Python and
                                   the driver take to ask for them is gone

Images and weights are those of `bench/inference`, and lie on the device. Another device is other
hardware: its ratio is no parallel speedup. `--device cpu` measures a CPU alone, for a comparison
with the saved run of another machine's GPU.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from bench.devices import GPUS, absence, tf32, within_memory
from bench.kernels.arms import limited
from bench.kernels.cases import GPU_NETWORKS
from bench.kernels.repeated import Repeated
from bench.suite import suite_of
from bench.tolerances import rounding_bound
from bench.workload import Workload, prepare
from models import InputError, on_kernels
from models.choice import parse_choice
from pytest_speedup.machine import usable_cpus

pytestmark = pytest.mark.speedup(axis="device", serial=False)

ONE_THREAD = "lenet"
"""The only network that one thread of a GPU is asked for."""


@dataclass(frozen=True)
class Question:
    """A network on a batch."""

    workload: Workload
    rounding: Callable[[Tensor], float]


@functools.lru_cache(maxsize=len(GPU_NETWORKS))
def question(network: str, batch: int) -> Question:
    """Loaded once: every pass measures it."""
    loaded = prepare(parse_choice(network, None, None, None, str(batch)))
    return Question(loaded, rounding_bound(loaded.model, loaded.images, loaded.logits))


@pytest.fixture
def measure(speedup, request, network, batch):
    """Times what a function makes of the network, on images on the device."""
    devices = suite_of(request.config).sweeps.devices or ()

    def measured(make: Callable[[nn.Module], Callable[[Tensor], Tensor]], device: str) -> None:
        reason = None if device in devices else absence(device) or no_gpu()
        if reason is not None:
            pytest.skip(reason)
        asked = question(network, batch)
        with tf32(False), torch.inference_mode(), within_memory():
            images = asked.workload.images.to(device)
            try:
                infer = make(asked.workload.model)
            except InputError as error:  # an implementation that cannot run here, and why
                pytest.skip(str(error))
            speedup(
                infer, images, expected=asked.workload.logits, tolerance=asked.rounding,
                work=batch, cpus=usable_cpus() if device == "cpu" else 1,
            )  # fmt: skip

    return measured


def no_gpu() -> str | None:
    """Why the CPU would stand alone; None where there is a GPU."""
    here = any(absence(device) is None for device in GPUS)
    return None if here else "no GPU here that the CPU could stand beside; --device cpu asks for it"


def by_hand(implementation: str) -> Callable[[nn.Module], Callable[[Tensor], Tensor]]:
    """What makes a network of the operators of an implementation."""
    return lambda model: on_kernels(model, implementation)


def eager(device: str) -> Callable[[nn.Module], Callable[[Tensor], Tensor]]:
    """What makes torch's own network on the device."""
    return lambda model: copy.deepcopy(model).to(device)


class Captured:
    """A network's launches on a batch as a CUDA graph; the images are the first call's."""

    device = "cuda"

    def __init__(self, infer: Callable[[Tensor], Tensor]) -> None:
        self._infer = infer
        self._graph: Repeated | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes]."""
        if self._graph is None:
            self._infer(images)  # compiles, and chooses cuDNN's plans, before the capture
            self._graph = Repeated([lambda: self._infer(images)], 1, self.device)
        return self._graph()


@pytest.mark.gpus("cpu")
def test_cpu_numba_threads(measure, network, batch, device):
    with limited(usable_cpus()):
        measure(by_hand("numba_threads"), device)


@pytest.mark.gpus("cpu")
def test_cpu_torch(measure, network, batch, device):
    with limited(usable_cpus()):
        measure(eager(device), device)


@pytest.mark.gpus("cuda")
def test_cuda_sequential(measure, network, batch, device):
    if network != ONE_THREAD:
        pytest.skip(f"one thread of a GPU takes minutes for more than {ONE_THREAD}")
    measure(by_hand("cuda_sequential"), device)


@pytest.mark.gpus("cuda")
def test_cuda(measure, network, batch, device):
    measure(by_hand("cuda"), device)


@pytest.mark.gpus("cuda")
def test_cuda_graph(measure, network, batch, device):
    measure(lambda model: Captured(on_kernels(model, "cuda")), device)


@pytest.mark.gpus("cuda")
def test_triton(measure, network, batch, device):
    measure(by_hand("triton"), device)


@pytest.mark.gpus("mps")
def test_metal(measure, network, batch, device):
    measure(by_hand("metal"), device)


@pytest.mark.gpus("cuda", "mps")
def test_torch(measure, network, batch, device):
    measure(eager(device), device)


@pytest.mark.gpus("cuda")
def test_torch_graph(measure, network, batch, device):
    measure(lambda model: Captured(eager(device)(model)), device)
