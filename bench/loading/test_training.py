"""Who holds the training back: the steps alone, on batches that lie there, and with their loading.

With loading, an epoch takes at least what the slower of the two takes alone, and where both compute
on the same CPUs hardly less than the sum of their work. `python -m bench.loading.bottleneck
RUN.json` holds them against each other.

Loaders that give a batch while the next are begun run beside the steps; the plain loop loads when a
batch is asked for. Each is to leave the weights that training on the cached batches leaves, every
bit: the images are the same, and so are torch's threads.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from bench.loading.test_loop import loop
from bench.loading.test_thread_pool import ThreadPool
from bench.loading.training import Training
from bench.suite import suite_of


@pytest.fixture(scope="session")
def training(request: pytest.FixtureRequest, photos) -> Training:
    """As --optimizer, --lr and --momentum say."""
    return Training(len(photos.classes), suite_of(request.config).training)


@pytest.fixture(scope="session")
def weights(training: Training, epoch) -> Mapping[str, Tensor]:
    """What an epoch on the cached batches leaves."""
    training.restart()
    return training.epoch(epoch)


def timed(speedup, photos, training, weights, load, workers):
    """Each sample is one epoch from the start."""
    speedup(
        training.on(load),
        expected=weights,
        work=len(photos),
        setup=training.restart,
        cpus=max(workers, torch.get_num_threads()),
    )


@pytest.mark.speedup(serial=False)
def test_train_cached(speedup, photos, epoch, training, weights):
    timed(speedup, photos, training, weights, lambda: epoch, workers=1)


@pytest.mark.speedup(serial=False)
def test_train_loop(speedup, photos, training, weights):
    timed(speedup, photos, training, weights, lambda: loop(photos), workers=1)


@pytest.mark.speedup(axis="threads")
@pytest.mark.one_and_all
def test_train_thread_pool(speedup, photos, training, weights, threads):
    with ThreadPool(photos, threads) as load:
        timed(speedup, photos, training, weights, load, threads)


@pytest.mark.speedup(axis="workers")
@pytest.mark.parametrize("workers", [1, 2])
def test_train_data_loader(speedup, photos, training, weights, data_loader, workers):
    timed(speedup, photos, training, weights, data_loader(workers), workers)
