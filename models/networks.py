"""Networks by name: built from a `Choice`, with its weights, in eval mode and float32.

    lenet                     the suite's own (models/registry.py)
    resnet18, vit_b_16, ...   every classification network of torchvision
    package.module:factory    one's own: a callable without arguments that returns a Module

Random weights come from a fixed seed; `calibration` then fits them to the images, for the reason
given there.
"""

from __future__ import annotations

import difflib
import importlib
import math

import torch
import torchvision.models
from torch import nn

from models.choice import Choice
from models.errors import InputError, first_line
from models.registry import OWN
from models.weights import load_state

SEED = 0

SIZED = {
    "vit_": lambda size: {"image_size": size},
    "maxvit": lambda size: {"input_size": (size, size)},
}
"""Networks that are built for one image size, by how their name begins."""

UNINITIALISED = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}
"""Their own slow initialisation is left out: every layer's weights are drawn anew."""


def names() -> list[str]:
    """Every network that is known by name."""
    return [*OWN, *torchvision.models.list_models(module=torchvision.models)]


def check_name(model: str) -> None:
    """Raise InputError, with the names that come near, unless the network is known or a factory."""
    if ":" in model or model in names():
        return
    near = difflib.get_close_matches(model.lower(), names(), n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"--model {model}: no such network; {meant}Allowed: {', '.join(OWN)}, a classification "
        f"network of torchvision ({len(names()) - len(OWN)} of them, such as resnet50), or "
        f"package.module:factory"
    )


def build(choice: Choice, image_size: int) -> nn.Module:
    """The network with its weights, in eval mode, on the CPU; random weights are not calibrated.

    Raises InputError where the network is unknown, its factory fails, or its weights do not fit.
    """
    check_name(choice.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = _build(choice, image_size)
    if choice.weights not in (None, "DEFAULT"):
        load_state(network, choice.model, choice.weights)
    return network.float().eval()


def _build(choice: Choice, image_size: int) -> nn.Module:
    pretrained = choice.weights == "DEFAULT"
    if pretrained and (choice.brings_its_own or choice.model in OWN):
        raise InputError(
            f"--weights DEFAULT: {choice.model} has no pretrained weights; leave the option out, "
            f"give a file of its state dict, or choose a network of torchvision"
        )
    if choice.brings_its_own:
        return _from_factory(choice.model)
    if pretrained:
        return _pretrained(choice.model)
    own = OWN.get(choice.model)
    network = own.build() if own else _untrained(choice.model, image_size)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
    return network


def _untrained(name: str, image_size: int) -> nn.Module:
    kwargs = dict(UNINITIALISED.get(name, {}))
    for beginning, sized in SIZED.items():
        if name.startswith(beginning):
            kwargs |= sized(image_size)
    try:
        return torchvision.models.get_model(name, weights=None, **kwargs)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{name} cannot be built for images of {image_size} px ({first_line(error)}); "
            f"leave --image-size out for the network's own"
        ) from None


def _pretrained(name: str) -> nn.Module:
    try:
        return torchvision.models.get_model(name, weights="DEFAULT")
    # URLError and timeouts are OSErrors, a download with the wrong hash is a RuntimeError.
    except (OSError, RuntimeError) as error:
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        raise InputError(
            f"--weights DEFAULT: {name}'s weights could not be fetched from {url} "
            f"({first_line(error)}); fetch that file where there is a network and give it as "
            f"--weights FILE, or leave the option out for random weights"
        ) from None


def _from_factory(model: str) -> nn.Module:
    module_name, _, factory_name = model.partition(":")
    allowed = "wanted package.module:factory, a callable without arguments that returns a Module"
    if not (module_name and factory_name.isidentifier()):
        raise InputError(f"--model {model}: {allowed}")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    # somebody else's code may raise anything while it is imported, and even end the process
    except (Exception, SystemExit) as error:
        raise InputError(
            f"--model {model}: cannot be imported ({first_line(error)}); {allowed}, and its folder "
            f"has to be on PYTHONPATH"
        ) from error
    try:
        network = factory()
    except (Exception, SystemExit) as error:  # somebody else's code
        raise InputError(
            f"--model {model}: the factory raised {first_line(error)}; {allowed}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"--model {model}: the factory returned {type(network).__name__}; {allowed}"
        )
    return network
