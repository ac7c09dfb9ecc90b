"""The CIFAR CNN of `models.cifar_cnn` and its gradients, on the operators of `kernels`.

Weights and gradients each lie in one flat buffer, in the order in which the backward pass finishes
them: an allreduce is one call over all of it, or one for each layer while the next is at work, and
an optimizer's step one pass.

A relu before a max pooling is undone behind it, on a quarter of the numbers: a window's largest
value is above zero where the value it came from is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import kernels
from kernels.arrays import Array, nhwc

SHAPES = {
    "fc2.weight": (10, 256),
    "fc2.bias": (10,),
    "fc1.weight": (256, 4096),
    "fc1.bias": (256,),
    "conv2.weight": (64, 32, 3, 3),
    "conv2.bias": (64,),
    "conv1.weight": (32, 3, 3, 3),
    "conv1.bias": (32,),
}
"""Parameters by torch's names, in the order in which their gradients are ready."""
LAYERS = ("fc2", "fc1", "conv2", "conv1")
WEIGHTS = sum(math.prod(shape) for shape in SHAPES.values())


@dataclass(frozen=True)
class Buffer:
    """One number for each weight, in one array, with views of it by name."""

    flat: Array
    named: Mapping[str, Array]

    def layer(self, name: str) -> Array:
        """The part of `flat` that holds a layer's weight and bias."""
        before = list(SHAPES)[: list(SHAPES).index(f"{name}.weight")]
        begin = sum(self.named[key].size for key in before)
        size = self.named[f"{name}.weight"].size + self.named[f"{name}.bias"].size
        return self.flat[begin : begin + size]


def over(flat: Array) -> Buffer:
    """`flat` with names for its parts; what it has more than there are weights stays nameless."""
    sizes = [math.prod(shape) for shape in SHAPES.values()]
    parts = np.split(flat[: sum(sizes)], np.cumsum(sizes)[:-1])
    named = zip(SHAPES.items(), parts, strict=True)
    return Buffer(flat, {name: part.reshape(shape) for (name, shape), part in named})


def buffer(dtype: type[np.floating] = np.float32, extra: int = 0) -> Buffer:
    """Zeros for every weight, and `extra` more."""
    return over(np.zeros(WEIGHTS + extra, dtype))


class Kept(NamedTuple):
    """What the backward pass asks of the forward pass."""

    images: Array
    conv1: Array
    pool1: Array
    places1: Array
    conv2: Array
    pool2: Array
    places2: Array
    flat: Array
    fc1: Array
    logits: Array


class NumpyCnn:
    """The network in one implementation of the operators; `threads` for those that have them."""

    def __init__(
        self,
        implementation: str,
        threads: int | None = None,
        dtype: type[np.floating] = np.float32,
    ) -> None:
        def operator(name: str) -> Any:
            return kernels.get(name, implementation, threads)

        self._conv2d, self._linear = operator("conv2d"), operator("linear")
        self._max_pool2d, self._relu = operator("max_pool2d"), operator("relu")
        self._cross_entropy = operator("cross_entropy")
        self.weights = buffer(dtype)
        self.gradients = buffer(dtype, extra=1)
        """Of the last `step`; behind them its loss, so that one allreduce brings both."""

    def forward(self, images: Array) -> Array:
        """Logits [n, 10] of images [n, 3, 32, 32]."""
        return self._activations(images).logits

    def step(
        self,
        images: Array,
        labels: Array,
        share: float = 1.0,
        ready: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Fill `gradients` with those of `share` times the mean loss, and with that loss.

        images: [n, 3, 32, 32], of any float dtype; labels: int64 [n]. share: what part of the whole
        batch these are, where others have the rest; n may be 0 then. ready: called with each of
        `LAYERS` as soon as its gradients are there.
        """
        if not len(images):
            self.gradients.flat[:] = 0
            for layer in LAYERS:
                ready(layer)
            return
        kept = self._activations(images.astype(self.weights.flat.dtype, copy=False))
        loss = self._cross_entropy
        self.gradients.flat[-1] = loss.forward(kept.logits, labels) * share
        upon = np.asarray(share, kept.logits.dtype)
        grad = loss.backward(upon, kept.logits, labels)

        grad = self._into("fc2", self._linear.backward(grad, kept.fc1, *self._of("fc2")))
        ready("fc2")
        grad = self._relu.backward(grad, kept.fc1)
        grad = self._into("fc1", self._linear.backward(grad, kept.flat, *self._of("fc1")))
        ready("fc1")
        grad = _channels_last(grad.reshape(kept.pool2.shape))
        grad = self._relu.backward(grad, kept.pool2)
        grad = self._max_pool2d.backward(grad, kept.conv2, 2, indices=kept.places2)
        grad = self._into("conv2", self._conv_backward(grad, kept.pool1, "conv2"))
        ready("conv2")
        grad = self._relu.backward(grad, kept.pool1)
        grad = self._max_pool2d.backward(grad, kept.conv1, 2, indices=kept.places1)
        self._into("conv1", self._conv_backward(grad, kept.images, "conv1"))
        ready("conv1")

    def _activations(self, images: Array) -> Kept:
        x = _channels_last(images)
        conv1 = self._conv2d.forward(x, *self._of("conv1"), padding=1, relu=True)
        pool1, places1 = self._max_pool2d.forward(conv1, 2, return_indices=True)
        conv2 = self._conv2d.forward(pool1, *self._of("conv2"), padding=1, relu=True)
        pool2, places2 = self._max_pool2d.forward(conv2, 2, return_indices=True)
        flat = pool2.reshape(len(pool2), -1)
        fc1 = self._relu.forward(self._linear.forward(flat, *self._of("fc1")))
        logits = self._linear.forward(fc1, *self._of("fc2"))
        return Kept(x, conv1, pool1, places1, conv2, pool2, places2, flat, fc1, logits)

    def _of(self, layer: str) -> tuple[Array, Array]:
        return self.weights.named[f"{layer}.weight"], self.weights.named[f"{layer}.bias"]

    def _conv_backward(self, grad: Array, given: Array, layer: str) -> Any:
        needs = (layer != "conv1", True, True)  # nobody asks for the gradient of the images
        return self._conv2d.backward(grad, given, *self._of(layer), padding=1, needs=needs)

    def _into(self, layer: str, gradients: tuple[Any, Array, Array]) -> Any:
        """Keep the gradients of weight and bias; return that of the input."""
        grad_input, grad_weight, grad_bias = gradients
        self.gradients.named[f"{layer}.weight"][...] = grad_weight
        self.gradients.named[f"{layer}.bias"][...] = grad_bias
        return grad_input


def _channels_last(images: Array) -> Array:
    return nhwc(images).transpose(0, 3, 1, 2)
