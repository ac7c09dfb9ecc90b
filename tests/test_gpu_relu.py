"""relu's GPU sources against torch, thread by thread on the host grid, or on a GPU."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.gpu_checks import each_gpu, poisoned
from tests.kernel_checks import assert_equal
from tests.kernel_inputs import integers, normal
from tests.test_relu import ODD

SHAPES = [(), (0,), (1,), (3, 0, 2), (1023,), (1024,), (1025,), (2, 3, 5, 7), (3, 1, 37, 41)]


@each_gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_are_torch_s(gpu, implementation, shape, rng, monkeypatch):
    poisoned(monkeypatch)
    operator = gpu("relu", implementation)
    x, gy = integers(rng, shape, "float32"), normal(rng, shape, "float32")
    assert_equal(operator.forward(x), F.relu(torch.from_numpy(x)).numpy())
    expected = torch.ops.aten.threshold_backward(torch.from_numpy(gy), torch.from_numpy(x), 0)
    assert_equal(operator.backward(gy, x), expected.numpy())


@each_gpu
def test_odd_numbers_go_through_as_in_torch(gpu, implementation):
    operator = gpu("relu", implementation)
    pairs = np.array(list(itertools.product(ODD, ODD))).astype(np.float32)
    gy, x = np.ascontiguousarray(pairs.T)
    result, expected = operator.forward(x), F.relu(torch.from_numpy(x)).numpy()
    assert_equal(result, expected)
    numbers = ~np.isnan(expected)
    assert_equal(np.signbit(result)[numbers], np.signbit(expected)[numbers])
    expected = torch.ops.aten.threshold_backward(torch.from_numpy(gy), torch.from_numpy(x), 0)
    assert_equal(operator.backward(gy, x), expected.numpy())


@each_gpu
def test_memory_that_begins_between_16_bytes_is_taken(gpu, implementation, rng):
    operator = gpu("relu", implementation)
    x = torch.from_numpy(normal(rng, (2050,), "float32")).to(operator.kind)
    for begin in (1, 2, 3):
        assert torch.equal(operator.on_device.forward(x[begin:]), x[begin:].relu())


@each_gpu
def test_what_a_kernel_cannot_take_is_refused(gpu, implementation):
    operator = gpu("relu", implementation).on_device
    kind = operator.kind
    x = torch.zeros(2, 3, device=kind)
    with pytest.raises(TypeError, match="input must be a torch tensor, got ndarray"):
        operator.forward(np.zeros(3, np.float32))
    with pytest.raises(TypeError, match="input must be float32, got float16"):
        operator.forward(x.half())
    elsewhere = torch.zeros(3, device="meta")
    with pytest.raises(ValueError, match=f"input must be on a '{kind}' device, got 'meta'"):
        operator.forward(elsewhere)
    with pytest.raises(ValueError, match=r"input must be contiguous, got strides \(1, 3\) for"):
        operator.forward(x.T)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3\), got \(3, 2\)"):
        operator.backward(x.reshape(3, 2), x)


def _both_ways(operator, rng):
    x, gy = (normal(rng, (1030,), "float32") for _ in range(2))
    operator.forward(x)
    operator.backward(gy, x)


CALLS = [("relu", _both_ways)]
"""What reaches every path of the kernels, for the sanitizers."""
