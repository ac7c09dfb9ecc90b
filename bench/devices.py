"""Which devices are here, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

from kernels.gpu.cuda import no_device
from models import InputError

GPUS = ("cuda", "mps")


def absence(device: str) -> str | None:
    """Why cpu, cuda or mps cannot be used here; None where it can."""
    if device == "cuda":
        by_amd = torch.version.hip is not None and torch.cuda.is_available()
        return None if by_amd else no_device()
    if device == "mps" and not torch.backends.mps.is_available():
        if not torch.backends.mps.is_built():
            return "torch is built without MPS, which Apple's GPUs need"
        return "no MPS device that torch can use"
    return None


def require(devices: Sequence[str]) -> None:
    """Raise InputError for a device that was asked for by name and is not here."""
    for device in devices:
        reason = absence(device)
        if reason is not None:
            present = [name for name in ("cpu", "cuda", "mps") if absence(name) is None]
            raise InputError(
                f"--device {device}: {reason}; here is {', '.join(present)}, and --device all "
                f"takes what is there"
            )


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """With or without TF32, which keeps 11 bits of a float32 product's 24; restored afterwards."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def tried_algorithms() -> Iterator[None]:
    """cuDNN takes the fastest of its algorithms, which it tries at a shape's first call.

    By itself it goes by a rule, and who is held against it would be held against its mistakes.
    """
    cudnn = torch.backends.cudnn
    before, cudnn.benchmark = cudnn.benchmark, True
    try:
        yield
    finally:
        cudnn.benchmark = before


@contextmanager
def within_memory() -> Iterator[None]:
    """Skips a test whose `with` block needs more memory than its device has, saying so in a line.

    A failure's traceback would keep what the block had got of it from the tests that follow.
    """
    try:
        yield
    except RuntimeError as error:
        told = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in told:
            raise
        reason = ". ".join(told.splitlines()[0].split(". ")[:2]).rstrip(".")
    else:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    pytest.skip(f"too little memory on the device: {reason}")
