"""What the tests of Triton's kernels share: operators on arrays, and what their modes may err."""

from __future__ import annotations

import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

import kernels
from kernels.gpu.triton import TritonDevice
from tests.triton_child import called, packed, start, unpacked

NAMES = ("triton", "triton_tf32", "triton_bf16")
SMALL = (16, 16, 16)
"""A tile that leaves several along each side of a small product, and remainders."""
FACTORS = {"triton": 8, "triton_tf32": 8 + 2**15, "triton_bf16": 8 + 2**16}
"""Of the bound factor u S, with u = 2^-24. An operand errs by its mode's unit, a product by twice
that: 2^-10 for TF32 cut off after 11 bits (2^-11 rounded to them), 2^-9 for bfloat16 rounded to 8.
"""

each_mode = pytest.mark.parametrize("implementation", NAMES)
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


class OnArrays:
    """The fixture `by_triton`: by_triton("conv2d", "triton", x, weight, padding=1) is an array.

    In Triton's interpreter; with `--device cuda`, on that device.
    """

    def __init__(self, on_cuda):
        self.on_cuda = on_cuda
        self._pool = None

    def __call__(self, operator, implementation, *arguments, tile=None, **keywords):
        arguments = [packed(value) for value in arguments]
        given = (self.on_cuda, operator, implementation, tile, arguments, keywords)
        if self.on_cuda:
            return unpacked(called(*given))
        if self._pool is None:
            fresh = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, fresh, initializer=start)
        return unpacked(self._pool.submit(called, *given).result(timeout=300))

    def close(self):
        if self._pool is not None:
            self._pool.shutdown()


def make_by_triton(asked):
    """Skips with the reason where it cannot run."""
    if asked == "mps":
        pytest.skip("Triton does not run on --device mps")
    if asked == "cuda":
        reason = TritonDevice().unavailable_reason()
        if reason is not None:
            pytest.skip(reason)
    return OnArrays(asked == "cuda")


def triton_names(operator):
    """An operator's implementations by Triton."""
    return [name for name in kernels.device_names(operator) if name in NAMES]
