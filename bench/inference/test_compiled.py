"""torch.compile: Inductor fuses operators and generates C++ for what is left of them.

Compiled once a session for each number of threads, outside the timing; how long that took stands
apart as `compile_seconds`. A cache that Inductor kept from an earlier session shortens it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches, torch_threads


class Compiled:
    """One image after another through the compiled network; compiles on entry where it has to."""

    def __init__(self, model: nn.Module) -> None:
        self._model = torch.compile(model)
        self._seconds: dict[int, float] = {}
        self.facts: dict[str, float] = {}
        """Seconds that compiling took for the threads in use."""

    @contextmanager
    def on(self, threads: int, like: Tensor) -> Iterator[Compiled]:
        """Compiled for `threads` threads and images of the shape of `like`."""
        with torch_threads(threads):
            if threads not in self._seconds:  # generated loops know their number of threads
                start = time.perf_counter()
                self(like[:1])
                self._seconds[threads] = time.perf_counter() - start
            self.facts = {"compile_seconds": round(self._seconds[threads], 2)}
            yield self

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, ...]."""
        return in_batches(self._model, images, batch_size=1)


def missing_compiler() -> str | None:
    """Why Inductor cannot compile for CPUs here; None where it can."""
    wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(wanted.split()[0]):
        return None
    return f"torch.compile needs the C++ compiler {wanted}: install it, or name another one in CXX"


@pytest.fixture(scope="session")
def compiled(model: nn.Module) -> Iterator[Compiled]:
    """Kept for the whole session, so that each pass does not compile again."""
    reason = missing_compiler()
    if reason is not None:
        pytest.skip(reason)
    yield Compiled(model)
    torch.compiler.reset()


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_compiled(speedup, compiled, images, logits, rounding, threads):
    with compiled.on(threads, like=images) as infer:
        speedup(infer, images, expected=logits, work=len(images), tolerance=rounding)
