"""Triton's implementations by name, their tiles, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernels
from kernels.gpu import cuda
from kernels.gpu.device import DeviceError
from kernels.gpu.triton import MODES, TritonDevice, _reason, fitting
from kernels.gpu.triton_tiles import ENOUGH, TILES, programs, tile
from kernels.registry import OPERATORS
from tests.triton_checks import NAMES
from tests.triton_child import Interpreter

X = torch.zeros(1, 4, 5, 5)
W = torch.zeros(6, 4, 3, 3)


def on_cpu(operator, mode="ieee"):
    """What checks its arguments here; it launches where Triton interprets."""
    return OPERATORS[operator].on_triton(Interpreter(), mode)


def test_products_come_in_three_modes_and_others_in_one():
    for operator in kernels.operators():
        there = [name for name in kernels.device_names(operator) if name in NAMES]
        if operator in ("conv2d", "linear"):
            assert there == list(NAMES)
        elif operator in ("softmax", "log_softmax", "cross_entropy"):
            assert there == ["triton"]
        else:
            assert there == []


@pytest.mark.parametrize("implementation", NAMES)
def test_an_implementation_is_had_by_name_and_says_whether_it_can_run(implementation):
    made = kernels.get("linear", implementation, threads=1)
    reason = made.unavailable_reason()
    assert reason is None or len(reason) > 10
    with pytest.raises(ValueError, match=f"linear '{implementation}' takes no threads, got 2"):
        kernels.get("linear", implementation, threads=2)


def test_a_mode_that_an_operator_has_not_is_refused():
    with pytest.raises(ValueError, match="softmax has no implementation 'triton_tf32'; allowed: "):
        kernels.get("softmax", "triton_tf32")
    with pytest.raises(ValueError, match="mode must be one of ieee, tf32, bf16, got 'fp8'"):
        on_cpu("conv2d", "fp8")
    with pytest.raises(ValueError, match="mode must be one of ieee, got 'tf32'"):
        on_cpu("softmax", "tf32")


@pytest.mark.parametrize(
    "operator", ["conv2d", "linear", "softmax", "log_softmax", "cross_entropy"]
)
def test_gradients_are_refused(operator):
    with pytest.raises(
        NotImplementedError, match="computes no gradients; the implementations cuda"
    ):
        on_cpu(operator).backward(X, X, 1)


@pytest.fixture
def fresh_reason():
    yield _reason.cache_clear()
    _reason.cache_clear()


def test_where_torch_has_no_cuda_device_or_triton_is_missing_is_said(fresh_reason, monkeypatch):
    monkeypatch.setattr("kernels.gpu.triton.no_device", lambda: "no CUDA device")
    assert TritonDevice().unavailable_reason() == "no CUDA device"
    with pytest.raises(DeviceError, match="kernel: no CUDA device"):
        TritonDevice().launch(_kernel, 1, X)
    _reason.cache_clear()
    monkeypatch.setattr("kernels.gpu.triton.no_device", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    assert TritonDevice().unavailable_reason() == "Triton is not installed; pip install triton"


def _kernel():
    pass


def test_cuda_core_is_no_matter_of_triton_s(fresh_reason, monkeypatch):
    missing = "cuda.core is not installed; pip install cuda-core"
    monkeypatch.setattr(cuda, "_reason", lambda: missing)
    assert TritonDevice().unavailable_reason() != missing


REFUSED = {
    "an array": (lambda: (np.zeros(3, "f"), W), TypeError, "input must be a torch tensor, got nda"),
    "half": (lambda: (X.half(), W), TypeError, "input must be float32, got float16"),
    "half weight": (lambda: (X, W.half()), TypeError, "weight must be float32, got float16"),
    "elsewhere": (lambda: (X.to("meta"), W), ValueError, "input must be on a 'cpu' device"),
    "gaps": (lambda: (X[:, ::2], W), ValueError, "input must be contiguous, got strides"),
    "dimensions": (lambda: (X[0, 0], W), ValueError, "input must have 3 or 4 dimensions"),
    "channels": (lambda: (X[:, :3].contiguous(), W), ValueError, "input must have 4 channels"),
    "bias": (lambda: (X, W, torch.zeros(5)), ValueError, r"bias must have shape \(6,\), got"),
    "bias's": (lambda: (X, W, torch.zeros(1, 6)), ValueError, "bias must have 1 dimensions"),
    "stride": (lambda: (X, W, None, 0), ValueError, "stride must be at least 1, got 0"),
    "relu": (lambda: (X, W), TypeError, "relu must be True or False, got 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_conv2d_cannot_take_is_refused(case):
    given, error, match = REFUSED[case]
    with pytest.raises(error, match=match):
        on_cpu("conv2d").forward(*given(), relu=1 if case == "relu" else False)


def test_what_the_others_cannot_take_is_refused():
    rows, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="weight must have 3 columns as input of shape"):
        on_cpu("linear").forward(rows, torch.zeros(4, 2))
    with pytest.raises(IndexError, match="dim must be from -2 to 1 for input of shape"):
        on_cpu("softmax").forward(rows, 2)
    with pytest.raises(ValueError, match="input must be contiguous, got strides"):
        on_cpu("log_softmax").forward(rows.T, 1)
    with pytest.raises(
        TypeError, match="target must be int64 or uint8 labels, or float32 probabilities; got int32"
    ):
        on_cpu("cross_entropy").forward(rows, labels.int())
    with pytest.raises(ValueError, match=r"target must have shape \(2,\)"):
        on_cpu("cross_entropy").forward(rows, labels[:1])
    with pytest.raises(ValueError, match="reduction must be one of none, mean, sum; got 'max'"):
        on_cpu("cross_entropy").forward(rows, labels, reduction="max")


def test_results_that_32_bits_do_not_count_are_refused():
    assert fitting("output", (2**30,)) == (2**30,)
    with pytest.raises(ValueError, match=r"output must have at most \d+ elements, got shape \(6"):
        fitting("output", (2**16, 2**15))


@pytest.mark.parametrize("mode", MODES)
def test_tiles_are_the_largest_that_give_every_multiprocessor_a_program(mode):
    assert tile(mode, 4096, 4096) == TILES[mode][0]
    chosen = tile(mode, 25088, 128)
    larger = TILES[mode][: TILES[mode].index(chosen)]
    assert programs(chosen, 25088, 128, 1) >= ENOUGH
    assert all(programs(each, 25088, 128, 1) < ENOUGH for each in larger)
    few = tile(mode, 49, 512)
    assert programs(few, 49, 512, 1) == max(
        programs(each, 49, 512, 1) for each in TILES[mode] if each.down < 98
    )
    assert tile(mode, 1, 1) == TILES[mode][-1]
