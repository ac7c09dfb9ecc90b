"""relu in every implementation against torch: odd numbers, memory, gradients, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.relu import direct
from tests.kernel_checks import Guard, assert_equal, assert_order, each_dtype, each_memory, tensor
from tests.kernel_inputs import integers, laid_out, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

NAMES = kernels.names("relu")
ODD = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38])

every = pytest.mark.parametrize("name", NAMES)


ARMS = [(name, 1) for name in NAMES] + [("numba_threads", 2), ("torch", 2)]


def memories(rng):
    dense = normal(rng, (4, 6, 8, 10), "float32")
    return {
        "plain": dense,
        "channels_last": laid_out(dense, "channels_last"),
        "permuted": dense.transpose(3, 1, 0, 2),
        "gaps": dense[:, ::2, ::2, ::2],
        "permuted_gaps": dense.transpose(3, 1, 0, 2)[::2],
        "repeated": np.broadcast_to(dense[:, :1], dense.shape),
        "one_channel": laid_out(dense, "channels_last")[:, :1],
        "one_pixel": laid_out(dense[:, :, :1, :1], "channels_last"),
        "one_image": laid_out(dense[:1], "channels_last"),
        "matrix": dense[0, 0].T,
        "volume": dense.reshape(4, 6, 2, 4, 10).transpose(0, 4, 1, 2, 3),
        "scalar": dense[0, 0, 0, 0:1].reshape(()),
    }


@every
@each_memory
@each_dtype
def test_forward_is_torch_s(name, memory, dtype, rng):
    x = laid_out(normal(rng, (2, 3, 5, 7), dtype), memory)
    assert_equal(kernels.get("relu", name).forward(x), F.relu(tensor(x)).numpy())


@every
@each_memory
@each_dtype
def test_backward_is_autograd_s(name, memory, dtype, rng):
    x, gy = (laid_out(integers(rng, (2, 3, 5, 7), dtype), memory) for _ in range(2))
    given = tensor(x).requires_grad_()
    (expected,) = torch.autograd.grad(F.relu(given), given, tensor(gy))
    assert_equal(kernels.get("relu", name).backward(gy, x), expected.numpy())


@every
@each_dtype
def test_nan_infinity_and_signed_zeros_go_through_as_in_torch(name, dtype):
    x = np.tile(ODD, 13).astype(dtype)
    result = kernels.get("relu", name).forward(x)
    expected = F.relu(torch.from_numpy(x)).numpy()
    assert_equal(result, expected)
    numbers = ~np.isnan(expected)
    assert_equal(np.signbit(result)[numbers], np.signbit(expected)[numbers])


@every
@each_dtype
def test_gradients_pass_at_nan_and_are_no_product(name, dtype):
    pairs = np.array(list(itertools.product(ODD, ODD))).astype(dtype)
    gy, x = np.ascontiguousarray(pairs.T)
    expected = torch.ops.aten.threshold_backward(torch.from_numpy(gy), torch.from_numpy(x), 0)
    assert_equal(kernels.get("relu", name).backward(gy, x), expected.numpy())


@every
@pytest.mark.parametrize("memory", memories(np.random.default_rng(0)))
def test_results_lie_in_torch_s_order_of_memory(name, memory, rng):
    x = memories(rng)[memory]
    expected = F.relu(tensor(x) if memory != "repeated" else torch.tensor(x[:, :1]).expand(x.shape))
    result = kernels.get("relu", name).forward(x)
    assert_equal(result, expected.numpy())
    assert_order(result, expected)


@every
def test_the_gradient_lies_as_the_input_where_the_two_differ(name, rng):
    x = laid_out(normal(rng, (2, 3, 4, 5), "float32"), "channels_last")
    gy = normal(rng, (2, 3, 4, 5), "float32")
    backward = kernels.get("relu", name).backward
    for a, b in ((gy, x), (x, gy)):
        expected = torch.ops.aten.threshold_backward(tensor(a), tensor(b), 0)
        result = backward(a, b)
        assert_equal(result, expected.numpy())
        assert_order(result, expected)


@every
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 1, 2, 1, 2)])
def test_any_number_of_dimensions(name, shape, rng):
    x = normal(rng, shape, "float32") if shape else np.array(-1.5, np.float32)
    operator = kernels.get("relu", name)
    assert_equal(operator.forward(x), np.where(x > 0, x, np.float32(0)))
    assert_equal(operator.backward(x, x), np.where(x > 0, x, np.float32(0)))


@every
def test_read_only_input_is_taken_and_left_alone(name, rng):
    x = normal(rng, (4, 5), "float32")
    before = x.copy()
    x.flags.writeable = False
    operator = kernels.get("relu", name)
    assert_equal(operator.forward(x), np.maximum(before, 0))
    assert_equal(operator.backward(x, x), np.maximum(before, 0))
    assert_equal(x, before)


@pytest.mark.parametrize(("name", "threads"), ARMS)
def test_tasks_that_do_not_divide_the_work_stay_within_it(name, threads, rng, monkeypatch):
    monkeypatch.setattr(direct, "GRAIN", 7)
    guard = Guard(monkeypatch)
    x, gy = (normal(rng, (3, 5, 7, 11), "float32") for _ in range(2))
    operator = kernels.get("relu", name, threads=threads)
    assert_equal(operator.forward(x), np.maximum(x, 0))
    assert_equal(operator.backward(gy, x), np.where(x > 0, gy, np.float32(0)))
    guard.check()


@every
def test_what_torch_refuses_is_refused(name):
    operator = kernels.get("relu", name)
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeError, match="input must be a NumPy array, got list"):
        operator.forward([1.0])
    with pytest.raises(TypeError, match="input must be float32 or float64, got int64"):
        operator.forward(np.zeros(3, np.int64))
    with pytest.raises(TypeError, match="input must be float32 or float64, got float16"):
        operator.forward(np.zeros(3, np.float16))
    with pytest.raises(TypeError, match="grad_output must be float32 as the input is, got float64"):
        operator.backward(np.zeros((2, 3)), x)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3\), got \(3, 2\)"):
        operator.backward(x.reshape(3, 2), x)
