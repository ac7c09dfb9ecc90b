"""Is a whole network as fast on the operators by hand as in eager torch?

    numba_threads  traced, batch norms folded, each layer an operator of `kernels`
    winograd       the same with Winograd's algorithm where it applies
    torch          the network as it is, eager, its weights in channels-last memory

Photographs and weights are those of `bench/inference`; all images go through in one batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bench.kernels.arms import limited
from bench.kernels.cases import NETWORK, NETWORK_BATCH, TITLES
from bench.tolerances import rounding_bound
from bench.workload import prepare
from models import on_kernels
from models.choice import parse_choice

pytestmark = [
    pytest.mark.benchmark(group=TITLES[NETWORK]),
    pytest.mark.parametrize("network", [NETWORK]),
]


@dataclass(frozen=True)
class Network:
    """A network in eval mode, its images in channels-last memory, its logits and their bound."""

    model: nn.Module
    images: Tensor
    logits: Tensor
    rounding: Callable[[Tensor], float]


@pytest.fixture(scope="session")
def loaded() -> Network:
    """Loaded once: every pass measures it."""
    workload = prepare(parse_choice(NETWORK, None, None, None, str(NETWORK_BATCH)))
    return Network(
        workload.model,
        workload.images.to(memory_format=torch.channels_last),
        workload.logits,
        rounding_bound(workload.model, workload.images, workload.logits),
    )


@pytest.fixture
def measure(speedup, loaded):
    return partial(
        speedup, expected=loaded.logits, tolerance=loaded.rounding, work=len(loaded.images)
    )


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_numba_threads(measure, loaded, network, threads):
    with limited(threads):
        measure(on_kernels(loaded.model, "numba_threads", threads), loaded.images)


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_winograd(measure, loaded, network, threads):
    with limited(threads):
        measure(on_kernels(loaded.model, "winograd", threads), loaded.images)


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_torch(measure, loaded, network, threads):
    with limited(threads), torch.inference_mode():
        turned = copy.deepcopy(loaded.model).to(memory_format=torch.channels_last)
        measure(turned, loaded.images)
