"""What every operator in every implementation is: torch's function by name, and its gradients.

An operator's class checks the arguments, brings them into one normal form (a frozen `Call`) and
makes room for the results with `kernels.arrays.empty`; an algorithm, one file each, fills that room
and checks nothing. An operator's algorithms have a base class of their own beside it.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from kernels.gpu.operator import DeviceOperator
    from kernels.gpu.triton import TritonOperator


class Algorithm(ABC):  # noqa: B024 - each operator's own adds the abstract methods
    """What all algorithms share; how they are called is their operator's affair."""

    threaded: bool = False
    """Whether it takes a number of threads."""

    def unavailable_reason(self) -> str | None:
        """Why it cannot run on this machine, or None."""
        return None


A = TypeVar("A", bound=Algorithm)


class Operator(Generic[A]):
    """One operator in one implementation; subclasses have `forward` and `backward`."""

    def __init__(self, algorithm: A, threads: int | None = None) -> None:
        self._algorithm = algorithm
        self._threads = threads

    def unavailable_reason(self) -> str | None:
        """Why this implementation cannot run on this machine, or None."""
        return self._algorithm.unavailable_reason()


@dataclass(frozen=True)
class Entry:
    """An operator's line in the registry: its class, and its algorithms by implementation."""

    operator: type[Operator[Any]]
    algorithms: Mapping[str, Any]
    on_device: type[DeviceOperator] | None = None
    """The same on a GPU, by source files that CUDA or Metal compiles."""
    on_triton: type[TritonOperator] | None = None
    """The same on a CUDA device, by kernels that Triton compiles."""
