"""The operators of one implementation, and the little that a network needs beside them.

`ArrayOperators` for the implementations on NumPy arrays, in channels-last memory; `DeviceOperators`
for those on a GPU's tensors, contiguous. What an implementation lacks, as Winograd does most,
comes from one that has everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import kernels
from kernels.arrays import nhwc
from models.errors import InputError

Step = Callable[..., Any]

ON_ARRAYS, ON_CUDA = "numba_threads", "cuda"
"""Which implementations have everything."""
DTYPES = (torch.float32, torch.float64)
"""What the operators on arrays take."""


class Operators:
    """Forward functions by the operators' names."""

    rest: str
    """The implementation that computes what this one does not claim."""

    def __init__(self, implementation: str, threads: int | None) -> None:
        self._implementation = implementation
        self._threads = threads

    def forward(self, name: str) -> Step:
        """The forward function of the operator `name`."""
        if self._implementation not in (*kernels.names(name), *kernels.device_names(name)):
            return self._rest(name)
        try:
            own: Step = kernels.get(name, self._implementation, self._threads).forward
        except ValueError as error:
            raise InputError(f"on_kernels: {error}") from None
        if self._implementation == self.rest:
            return own
        rest = self._rest(name)

        def either(*args: Any, **kwargs: Any) -> Any:
            try:
                return own(*args, **kwargs)
            except NotImplementedError:
                return rest(*args, **kwargs)

        return either

    def _rest(self, name: str) -> Step:
        step: Step = kernels.get(name, self.rest, self._threads).forward
        return step

    def flatten(self, input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:  # noqa: A002
        """torch.flatten."""
        begin, end = start_dim % input.ndim, end_dim % input.ndim + 1
        together = math.prod(input.shape[begin:end])  # -1 would not do for an empty batch
        return input.reshape(*input.shape[:begin], together, *input.shape[end:])


class ArrayOperators(Operators):
    """On NumPy arrays."""

    rest = ON_ARRAYS

    def images(self, images: Tensor) -> Any:
        """The images as an array; raises InputError for what the operators do not take."""
        if images.dtype not in DTYPES or images.device.type != "cpu":
            raise InputError(
                f"on_kernels: the images must be float32 or float64 on the CPU, got {images.dtype} "
                f"on {images.device}"
            )
        array = images.detach().numpy()
        return nhwc(array).transpose(0, 3, 1, 2) if array.ndim == 4 else array

    def parameter(self, tensor: Tensor) -> Any:
        """A copy; a convolution's weights in channels-last memory."""
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.detach().numpy().copy(order="K")

    def result(self, value: Any) -> Tensor:
        """As a torch tensor."""
        return torch.from_numpy(value)

    def like(self, value: Any, other: Any) -> Any:
        """An array or a number as an array of the other's dtype."""
        return np.asarray(value, other.dtype)

    def concatenate(self, tensors: Sequence[Any], dim: int = 0) -> Any:
        """torch.cat; along the channels in channels-last memory too, where all of them lie so."""
        if dim == 1 and tensors[0].ndim == 4:
            turned = [array.transpose(0, 2, 3, 1) for array in tensors]
            return np.concatenate(turned, 3).transpose(0, 3, 1, 2)
        return np.concatenate(tensors, dim)

    tanh = staticmethod(np.tanh)


class DeviceOperators(Operators):
    """On contiguous float32 tensors, on the device that the implementation is for."""

    def __init__(self, implementation: str, threads: int | None) -> None:
        super().__init__(implementation, threads)
        made = kernels.get("conv2d", implementation, threads)
        reason = made.unavailable_reason()
        if reason is not None:
            raise InputError(f"on_kernels: {implementation} cannot run here: {reason}")
        self.device = made.kind
        everything = implementation in kernels.device_names("max_pool2d")
        self.rest = implementation if everything else ON_CUDA

    def images(self, images: Tensor) -> Tensor:
        """The images on the device; raises InputError for another dtype or device."""
        if images.dtype != torch.float32 or images.device.type != self.device:
            raise InputError(
                f"on_kernels: the images must be float32 on {self.device}, got {images.dtype} on "
                f"{images.device}"
            )
        return images.detach().contiguous()

    def parameter(self, tensor: Tensor) -> Tensor:
        """A copy on the device; raises InputError unless it is float32."""
        if tensor.dtype not in (torch.float32, torch.int64):
            raise InputError(
                f"on_kernels: on a GPU the network must be float32, got {tensor.dtype}; call its "
                f"float() first"
            )
        return tensor.detach().contiguous().to(self.device, copy=True)

    def result(self, value: Tensor) -> Tensor:
        """As it is."""
        return value

    def like(self, value: Any, other: Any) -> Tensor:
        """A tensor or a number as a tensor beside the other."""
        return torch.as_tensor(value, dtype=other.dtype, device=other.device)

    def concatenate(self, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
        """torch.cat."""
        return torch.cat(tuple(tensors), dim)

    tanh = staticmethod(torch.tanh)


def operators_of(implementation: str, threads: int | None) -> ArrayOperators | DeviceOperators:
    """Raises InputError for an implementation that nobody knows, or that cannot run here."""
    of_arrays, of_devices = (
        dict.fromkeys(name for operator in kernels.operators() for name in names(operator))
        for names in (kernels.names, kernels.device_names)
    )
    if implementation in of_arrays:
        return ArrayOperators(implementation, threads)
    if implementation in of_devices:
        return DeviceOperators(implementation, threads)
    raise InputError(
        f"on_kernels: no implementation {implementation!r}; allowed: "
        f"{', '.join((*of_arrays, *of_devices))}"
    )
