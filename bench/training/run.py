"""What a training run was made from and how it went: what checkpoint, table and curves know of it.

Seconds are those of the steps alone, one run's, with no interval; see `bench.training.runs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.training.trainer import Task
from models.datasets import Dataset

Recipe = Mapping[str, str | int | float]
"""All that decides the weights, but for the number of epochs; options under their own names."""


@dataclass(frozen=True)
class Epoch:
    """One turn through the training images."""

    seconds: float
    loss: float
    """Mean over the images, each before the step that it took part in."""
    images: int
    """That were trained on: all of them, but in a check."""
    accuracy: float
    """Share of the test images that are told rightly afterwards."""


@dataclass(frozen=True)
class Run:
    """One strategy's training, as far as it has come."""

    recipe: Recipe
    epochs: tuple[Epoch, ...] = ()
    losses: tuple[float, ...] = ()
    """Of each step."""
    warm_up: tuple[float, ...] = ()
    """Seconds before the first step that counts, of each session that the run took."""
    resumed: tuple[int, ...] = ()
    """Epochs that lay behind it, each time it went on from a checkpoint."""

    @property
    def strategy(self) -> str:
        """Its name in the registry."""
        return str(self.recipe["strategy"])

    @property
    def images_per_second(self) -> float:
        """Of all epochs together."""
        return sum(epoch.images for epoch in self.epochs) / self.seconds

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def final(self) -> float:
        """Accuracy after the last epoch."""
        return self.epochs[-1].accuracy

    @property
    def best(self) -> float:
        """The highest accuracy of any epoch."""
        return max(epoch.accuracy for epoch in self.epochs)

    def seconds_to(self, accuracy: float) -> float | None:
        """Up to the end of the first epoch that reached it; None where none has."""
        spent = 0.0
        for epoch in self.epochs:
            spent += epoch.seconds
            if epoch.accuracy >= accuracy:
                return spent
        return None


def recipe_of(strategy: str, task: Task, data: Dataset, digest: str, seed: int) -> Recipe:
    """What a run of this strategy is made from."""
    settings = {f"--{key.replace('_', '-')}": value for key, value in asdict(task.settings).items()}
    del settings["--epochs"]
    return {
        "strategy": strategy,
        "network": task.network,
        "classes": task.classes,
        **settings,
        "data": data.name,
        "training images": len(data.labels),
        "test images": len(data.test_labels),
        "data's digest": digest,
        "seed": seed,
    }


def digest_of(data: Dataset) -> str:
    """Of every image and label, in their order."""
    digest = hashlib.sha256()
    for array in (data.images, data.labels, data.test_images, data.test_labels):
        digest.update(array.data)
    return digest.hexdigest()[:16]


def differences(made: Recipe, wanted: Recipe) -> list[str]:
    """In words, each thing in which a run that was made is not the one that is wanted."""
    return [
        f"{key} {made.get(key)}, now it is {wanted.get(key)}"
        for key in dict.fromkeys([*wanted, *made])
        if made.get(key) != wanted.get(key)
    ]


def run_from(record: Mapping[str, Any]) -> Run:
    """The run whose `asdict` this is; raises KeyError or TypeError for anything else."""
    return Run(
        recipe=dict(record["recipe"]),
        epochs=tuple(Epoch(**epoch) for epoch in record["epochs"]),
        losses=tuple(record["losses"]),
        warm_up=tuple(record["warm_up"]),
        resumed=tuple(record["resumed"]),
    )
