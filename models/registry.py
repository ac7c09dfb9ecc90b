"""The suite's own networks, a line each, in the order in which errors list them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from models.lenet import LeNet5


@dataclass(frozen=True)
class Own:
    """How to build a network, and the images that it takes."""

    build: Callable[[], nn.Module]
    image_size: int
    mode: str
    """Pillow's: "L" for one channel, "RGB" for three; values from -1 to 1."""


OWN = {
    "lenet": Own(LeNet5, image_size=32, mode="L"),
}
