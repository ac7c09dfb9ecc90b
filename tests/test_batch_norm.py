"""batch_norm in every implementation against torch: rounding, what may be left out, odd numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.batch_norm import by_planes, by_rows
from tests.batch_norm_checks import (
    EPS,
    channels,
    check,
    each_by_hand,
    either,
    every,
    truth,
)
from tests.kernel_checks import about, assert_equal, assert_within, each_dtype, each_memory
from tests.kernel_inputs import integers, laid_out, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

SHAPES = [(7, 3), (2, 3, 5), (2, 3, 4, 5), (3, 300, 1, 1), (2, 3, 2, 3, 4), (2, 3, 2, 1, 2, 2)]


@every
@each_memory
@each_dtype
@either
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rounding_stays_within_the_bound(name, memory, dtype, training, shape, rng):
    x, gy = (laid_out(normal(rng, shape, dtype), memory) for _ in range(2))
    check(kernels.get("batch_norm", name), x, gy, channels(rng, shape[1], dtype), training)


@every
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
@either
def test_blocks_are_put_together_within_the_bound(name, memory, training, rng, monkeypatch):
    monkeypatch.setattr(by_planes, "GRAIN", 100)
    monkeypatch.setattr(by_rows, "tasks", lambda shape: shape[0] // 19)
    x, gy = (laid_out(normal(rng, (5, 6, 9, 7), "float32"), memory) for _ in range(2))
    check(kernels.get("batch_norm", name), x, gy, channels(rng, 6, "float32"), training)


@every
@each_memory
@each_dtype
def test_integers_are_exact_in_inference(name, memory, dtype, rng):
    x, gy = (laid_out(integers(rng, (2, 3, 4, 5), dtype), memory) for _ in range(2))
    mean, weight, bias = integers(rng, (3, 3), dtype)
    var = np.array([1, 4, 0.25], dtype)
    output, grads, *_ = truth(x, gy, mean, var, weight, bias, False, eps=0)
    operator = kernels.get("batch_norm", name)
    assert_equal(operator.forward(x, mean, var, weight, bias, eps=0), output.astype(dtype))
    ours = operator.backward(gy, x, mean, var, weight, bias, eps=0)
    for (what, exact), grad in zip(grads.items(), ours, strict=True):
        with about(f"gradient of {what}"):
            assert_equal(grad, exact.astype(dtype))


@each_by_hand
@either
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_a_mean_far_from_zero_costs_float32_nothing(name, training, memory, rng):
    # torch is a thousand times worse here
    x = laid_out((normal(rng, (4, 3, 8, 8), "float32") + 4096).astype(np.float32), memory)
    mean, var = np.full(3, 4096.25, np.float32), np.ones(3, np.float32)
    wide_x = x.astype(np.float64)
    centre, spread = mean[0], var[0]
    if training:
        centre, spread = (f(axis=(0, 2, 3), keepdims=True) for f in (wide_x.mean, wide_x.var))
    exact = (wide_x - centre) / np.sqrt(spread + EPS)
    result = kernels.get("batch_norm", name).forward(x, mean, var, training=training)
    assert_within(result, exact, abs(exact))


@every
@either
@pytest.mark.parametrize("given", ["none", "weight", "bias"])
def test_weight_and_bias_may_be_left_out(name, training, given, rng):
    x, gy = (normal(rng, (3, 4, 5, 2), "float32") for _ in range(2))
    mean, var, weight, bias = channels(rng, 4, "float32")
    weight, bias = weight if given == "weight" else None, bias if given == "bias" else None
    output, grads, *_ = truth(x, gy, mean, var, weight, bias, training)
    operator = kernels.get("batch_norm", name)
    ours = operator.backward(gy, x, mean, var, weight, bias, training)
    for what, grad in zip(("input", "weight", "bias"), ours, strict=True):
        assert (grad is None) == (what not in grads)
        if grad is not None:
            np.testing.assert_allclose(grad, grads[what], rtol=1e-5, atol=1e-5)
    result = operator.forward(x, mean, var, weight, bias, training)
    np.testing.assert_allclose(result, output, rtol=1e-5, atol=1e-6)


@every
def test_gradients_that_are_not_needed_are_none(name, rng):
    x = normal(rng, (3, 4, 5), "float32")
    backward = kernels.get("batch_norm", name).backward
    full = backward(x, x, *channels(rng, 4, "float32"), training=True)
    rng = np.random.default_rng(0)
    x = normal(rng, (3, 4, 5), "float32")
    parameters = channels(rng, 4, "float32")
    for wanted in range(3):
        needs = tuple(i == wanted for i in range(3))
        some = backward(x, x, *parameters, training=True, needs=needs)
        assert [grad is not None for grad in some] == list(needs)
        assert_equal(some[wanted], full[wanted])


@every
@either
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 0, 4, 5), (0, 3)])
def test_empty_batches_give_empty_output_and_no_gradients(name, training, shape):
    x, zero = np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)
    operator = kernels.get("batch_norm", name)
    assert operator.forward(x, zero, zero, zero, zero, training).shape == shape
    grads = operator.backward(x, x, zero, zero, zero, zero, training)
    for grad, like in zip(grads, (x, zero, zero), strict=True):
        assert_equal(grad, np.zeros_like(like))


@pytest.mark.parametrize("name", ["numba", "numba_threads"])
def test_rows_longer_than_a_block_are_not_cut(name, rng):
    x, gy = (normal(rng, (2, 2 * by_rows.BLOCK), "float32") for _ in range(2))
    parameters = channels(rng, x.shape[1], "float32")
    check(kernels.get("batch_norm", name), x, gy, parameters, training=True)


@every
@either
@each_memory
def test_nan_and_infinity_stay_in_their_channel_as_in_torch(name, training, memory, rng):
    x = normal(rng, (2, 5, 3, 4), "float32")
    x[0, 0, 0, 0], x[1, 1, 2, 3], x[0, 2, 1, 1] = np.nan, np.inf, -np.inf
    x = laid_out(x, memory)
    parameters = channels(rng, 5, "float32")
    mean, var = parameters[0].copy(), parameters[1].copy()
    output, grads, running_mean, running_var = truth(x, x, *parameters, training)
    operator = kernels.get("batch_norm", name)
    ours = operator.backward(x, x, *parameters, training)
    result = operator.forward(x, mean, var, *parameters[2:], training)
    np.testing.assert_allclose(result, output, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(var, running_var.numpy(), rtol=1e-5)
    for grad, exact in zip(ours, grads.values(), strict=True):
        np.testing.assert_allclose(grad, exact, rtol=1e-4, atol=1e-4)


@every
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_odd_running_statistics_give_what_torch_gives(name, memory, rng):
    x = laid_out(normal(rng, (2, 6, 3, 4), "float32"), memory)
    mean = np.array([np.inf, -np.inf, np.nan, 0, 0, 1], np.float32)
    var = np.array([1, 1, 1, 0, -1, np.inf], np.float32)
    expected = F.batch_norm(*map(torch.from_numpy, (x, mean, var))).numpy()
    result = kernels.get("batch_norm", name).forward(x, mean, var)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@each_by_hand
@either
@pytest.mark.parametrize("value", [0.0, 3.5])
def test_channels_without_variance_are_the_bias(name, training, value):
    x = np.full((2, 3, 4, 5), value, np.float32)
    mean, var = np.full(3, value, np.float32), np.zeros(3, np.float32)
    bias = np.arange(3, dtype=np.float32)
    result = kernels.get("batch_norm", name).forward(x, mean, var, None, bias, training)
    assert_equal(result, np.broadcast_to(bias[:, None, None], x.shape))
