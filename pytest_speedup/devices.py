"""When is a call really done? On a GPU only once it is synchronised, which is timed with it.

The device is read off the result (or off the callable, which may name it), so that no benchmark
has to remember to wait.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any


def device_of(function: object, result: object) -> str:
    """The device a call works on: what the callable says of itself, else where its result lies."""
    named = getattr(function, "device", None)
    return str(named) if named is not None else (_tensor_device(result) or "cpu")


def computes_on_cpu(result: object) -> bool:
    """Whether torch computed the result on a CPU, with as many threads as it has."""
    return _tensor_device(result) == "cpu"


def _tensor_device(value: Any) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(value, torch.Tensor):
        return str(value.device)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        found = (_tensor_device(item) for item in value)
        return next((device for device in found if device not in (None, "cpu")), None)
    return None


def awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` that returns when its device is done, for a first call, which tells the device."""

    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        synchronised(lambda: None, device_of(function, result))()
        return result

    return call


def synchronised(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """`function` that returns when its device is done; on a CPU `function` itself, at no cost."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return function
    import torch

    synchronise: Callable[[], None] = getattr(torch, kind).synchronize

    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        synchronise()
        return result

    return call
