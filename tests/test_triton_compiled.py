"""Triton's kernels compiled ahead of time for sm_90, for which there need be no GPU."""

from __future__ import annotations

import re

import pytest
import torch

from kernels.gpu import triton_tiles
from kernels.gpu.triton import MODES
from kernels.gpu.triton_tiles import TILES, tile
from kernels.registry import OPERATORS
from tests.triton_checks import needs_triton

TENSOR_CORES = re.compile(r"wgmma\.mma_async|\bmma\.sync")
TYPE = {"tf32": re.compile(r"\.tf32"), "bf16": re.compile(r"\.bf16")}


@pytest.fixture
def compiled(monkeypatch):
    """compiled("conv2d", mode, tile, x, weight): what Triton makes of each launch."""
    from tests.triton_ahead import Compiler

    def run(operator, mode, cut, *arguments, **keywords):
        compiler = Compiler()
        made = OPERATORS[operator].on_triton(compiler, mode)
        if cut is not None:
            monkeypatch.setattr(triton_tiles, "TILES", {mode: (cut,)})
        tile.cache_clear()
        made.forward(*arguments, **keywords)
        tile.cache_clear()
        return compiler.compiled

    return run


def images(channels_last=False):
    """Sizes as a network has them; the values are not read."""
    x = torch.empty(2, 64, 28, 28)
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


PRODUCTS = {
    "conv2d": lambda: (images(), torch.empty(128, 64, 3, 3), torch.empty(128)),
    "conv2d, channels_last": lambda: (images(True), torch.empty(128, 64, 3, 3)),
    "conv2d, 3 channels": lambda: (images()[:, :3].contiguous(), torch.empty(128, 3, 7, 7)),
    "linear": lambda: (torch.empty(256, 512), torch.empty(1000, 512), torch.empty(1000)),
}
"""Operator and, behind a comma, what is particular about the call."""


@needs_triton
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", PRODUCTS)
def test_modes_but_ieee_use_tensor_cores(compiled, mode, case):
    (kernel,) = compiled(case.split(",")[0], mode, TILES[mode][0], *PRODUCTS[case]())
    assert kernel.asm["cubin"][:4] == b"\x7fELF"
    words = TENSOR_CORES.findall(kernel.asm["ptx"])
    if mode == "ieee":
        assert not words
        assert "fma.rn.f32" in kernel.asm["ptx"]
        return
    assert "wgmma.mma_async" in words
    lines = [line for line in kernel.asm["ptx"].splitlines() if TENSOR_CORES.search(line)]
    assert all(TYPE[mode].search(line) for line in lines)
    assert mode == "tf32" or "cvt.rn.bf16" in kernel.asm["ptx"], "rounded to the nearest"


EVERY_TILE = [(mode, each) for mode in ("ieee", "tf32") for each in TILES[mode][1:]]


@needs_triton
@pytest.mark.parametrize(("mode", "cut"), EVERY_TILE, ids=str)
def test_every_tile_fits_into_shared_memory(compiled, mode, cut):
    (kernel,) = compiled("linear", mode, cut, *PRODUCTS["linear"]())
    assert 0 < kernel.metadata.shared <= 227 * 1024


X = torch.empty(64, 1024)
OTHERS = {
    "softmax": ("softmax", (X, 1)),
    "log_softmax of many": ("log_softmax", (torch.empty(4, 20000), 1)),
    "cross_entropy": ("cross_entropy", (X, torch.zeros(64, dtype=torch.int64))),
    "cross_entropy, all": (
        "cross_entropy",
        (X, torch.zeros(64, dtype=torch.int64), torch.empty(1024), -(2**40), "sum", 0.1),
    ),
    "cross_entropy of probabilities": ("cross_entropy", (X, X, None, -100, "none")),
}


@needs_triton
def test_neighbouring_classes_and_channels_are_read_four_at_a_time(compiled):
    (kernel,) = compiled("softmax", "ieee", None, X, 1)
    assert "ld.global.v4" in kernel.asm["ptx"]
    (kernel,) = compiled("conv2d", "tf32", None, *PRODUCTS["conv2d, channels_last"]())
    assert "cp.async.cg.shared.global" in kernel.asm["ptx"]
    assert "cp.async.ca.shared.global" not in kernel.asm["ptx"]


@needs_triton
@pytest.mark.parametrize("case", OTHERS)
def test_softmaxes_and_losses_compile(compiled, case):
    operator, given = OTHERS[case]
    made = compiled(operator, "ieee", None, *given)
    summed = operator == "cross_entropy" and "none" not in given
    assert [kernel.metadata.name for kernel in made] == (
        ["cross_entropy", "reduced"] if summed else [operator.removeprefix("log_")]
    )
    assert all(kernel.asm["cubin"][:4] == b"\x7fELF" for kernel in made)
