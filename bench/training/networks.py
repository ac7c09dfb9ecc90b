"""The networks that are trained, a line each, and the weights that every strategy starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torchvision.models
from torch import nn

from bench.training.trainer import Arrays
from models.cifar_cnn import cifar_cnn

NETWORKS: Mapping[str, Callable[[int], nn.Module]] = {
    "cifar_cnn": lambda classes: cifar_cnn(classes),
    "resnet18": lambda classes: torchvision.models.resnet18(num_classes=classes),
}
"""Name -> what builds it for a number of classes."""

SEED = 0


def build(name: str, classes: int) -> nn.Module:
    """The network in training mode, with weights of no interest: `load` brings others."""
    return NETWORKS[name](classes).train()


def initial_weights(name: str, classes: int) -> Arrays:
    """A `state_dict()`, the same for every strategy; batch norms begin as identities."""
    # Here, because it brings Numba: a worker process gets its weights from elsewhere.
    from models.initialisation import he_normal

    network = build(name, classes)
    state: dict[str, Any] = {key: value.numpy() for key, value in network.state_dict().items()}
    drawn = {
        f"{at}.{key}": tuple(parameter.shape)
        for at, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
        for key, parameter in layer.named_parameters()
    }
    return {**state, **he_normal(drawn, SEED)}
