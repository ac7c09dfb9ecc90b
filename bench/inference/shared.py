"""Objects with tensors, handed to other processes without a copy of the tensors for each.

All tensors of an object tree are laid into one block of shared memory, and the rest is pickled with
their places in it. One block, because torch hands over one file descriptor for every tensor: a
network of a thousand tensors in eight processes runs into the limit of open files.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ALIGNMENT = 64
"""Bytes; what torch's own allocator gives, and vector instructions like."""


@dataclass(frozen=True)
class Shared:
    """A pickled object, and the block that holds its tensors."""

    pickled: bytes
    block: Tensor
    """uint8, in shared memory."""

    def open(self) -> Any:
        """The object, its tensors views of the block: a change is seen by every process."""
        return _Reader(self).load()


def share(thing: object) -> Shared:
    """Copy an object's tensors into shared memory.

    Raises what pickle raises for an object that cannot be sent to another process.
    """
    stream = io.BytesIO()
    writer = _Writer(stream)
    writer.dump(thing)
    block = torch.empty(writer.size, dtype=torch.uint8).share_memory_()
    for tensor, start in writer.tensors:
        _view(block, start, tensor.shape, tensor.dtype).copy_(tensor)
    return Shared(stream.getvalue(), block)


class _Writer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self.size = 0
        self.tensors: list[tuple[Tensor, int]] = []
        self._known: dict[int, tuple[object, ...]] = {}

    def persistent_id(self, thing: object) -> tuple[object, ...] | None:
        if not isinstance(thing, Tensor):
            return None
        if id(thing) not in self._known:  # one that is used twice stays one
            tensor = thing.detach()
            parameter = isinstance(thing, nn.Parameter)
            place = (self.size, tuple(tensor.shape), tensor.dtype, parameter, thing.requires_grad)
            self.tensors.append((tensor, self.size))
            self.size += -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
            self._known[id(thing)] = (len(self._known), *place)
        return self._known[id(thing)]


class _Reader(pickle.Unpickler):
    def __init__(self, shared: Shared) -> None:
        super().__init__(io.BytesIO(shared.pickled))
        self._block = shared.block
        self._known: dict[int, Tensor] = {}

    def persistent_load(self, key: Any) -> Tensor:
        number, start, shape, dtype, parameter, requires_grad = key
        if number not in self._known:
            view = _view(self._block, start, shape, dtype)
            self._known[number] = nn.Parameter(view, requires_grad) if parameter else view
        return self._known[number]


def _view(block: Tensor, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    size = dtype.itemsize * torch.Size(shape).numel()
    return block[start : start + size].view(dtype).view(shape)
