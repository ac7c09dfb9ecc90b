"""The statistics of a batch: how exact they are, and what is saved of them for the gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernels
from tests.batch_norm_checks import EPS, channels, every, scales, truth, wide
from tests.kernel_checks import about, assert_equal, assert_within, each_dtype, each_memory
from tests.kernel_inputs import laid_out, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")


@every
@each_memory
@each_dtype
def test_gradients_by_saved_statistics_are_those_by_new_ones(name, memory, dtype, rng):
    x, gy = (laid_out(normal(rng, (2, 3, 4, 5), dtype), memory) for _ in range(2))
    parameters = channels(rng, 3, dtype)
    operator = kernels.get("batch_norm", name)
    plain = operator.forward(x, None, None, *parameters[2:], training=True)
    output, mean, invstd = operator.forward(
        x, None, None, *parameters[2:], training=True, return_statistics=True
    )
    assert_equal(output, plain)
    _, *expected = torch.native_batch_norm(wide(x), None, None, None, None, True, 0.1, EPS)
    unit = np.finfo(dtype).eps / 2
    for statistic, exact in zip((mean, invstd), expected, strict=True):
        assert statistic.dtype == dtype
        np.testing.assert_allclose(statistic, exact.numpy(), rtol=8 * unit, atol=8 * unit)
    saved = {"save_mean": mean, "save_invstd": invstd}
    grads = operator.backward(gy, x, *parameters, training=True, **saved)
    _, exact, *_ = truth(x, gy, *parameters, True)
    _, grad_scales = scales(x, gy, *parameters, True)
    for (what, wanted), grad in zip(exact.items(), grads, strict=True):
        with about(f"gradient of {what}"):
            assert_within(grad, wanted, grad_scales[what])


@every
def test_saved_statistics_are_what_counts_in_training_alone(name, rng):
    x = normal(rng, (2, 3, 4, 5), "float32")
    parameters = channels(rng, 3, "float32")
    backward = kernels.get("batch_norm", name).backward
    others = {"save_mean": np.full(3, 9, np.float32), "save_invstd": np.ones(3, np.float32)}
    for training in (True, False):
        plain = backward(x, x, *parameters, training)
        given = backward(x, x, *parameters, training, **others)
        for one, other in zip(plain[:2], given[:2], strict=True):
            assert np.array_equal(one, other) != training


@every
def test_statistics_of_an_empty_batch_are_nan(name):
    x = np.zeros((0, 3, 4), np.float32)
    operator = kernels.get("batch_norm", name)
    _, *saved = operator.forward(x, None, None, training=True, return_statistics=True)
    for statistic in saved:
        assert_equal(statistic, np.full(3, np.nan, np.float32))


@every
def test_saved_statistics_that_do_not_fit_are_refused(name):
    operator = kernels.get("batch_norm", name)
    x, ok = np.zeros((2, 3, 4, 5), np.float32), np.ones(3, np.float32)

    def refused(kind, match, mean, invstd):
        with pytest.raises(kind, match=match):
            operator.backward(x, x, ok, ok, training=True, save_mean=mean, save_invstd=invstd)

    refused(ValueError, "save_mean and save_invstd must both be given or both be None", ok, None)
    refused(ValueError, r"save_mean must have shape \(3,\), got \(2,\)", ok[:2], ok)
    refused(ValueError, "save_invstd must have 1 dimensions", ok, ok[:, None])
    refused(TypeError, "save_invstd must be float32 as the input is", ok, ok.astype(np.float64))
    refused(TypeError, "save_mean must be a NumPy array, got float", 1.0, ok)
    with pytest.raises(ValueError, match="return_statistics must be False unless in training"):
        operator.forward(x, ok, ok, return_statistics=True)
    with pytest.raises(TypeError, match="return_statistics must be True or False, got 1"):
        operator.forward(x, ok, ok, training=True, return_statistics=1)


@pytest.mark.parametrize("name", ["numba", "numba_threads"])
@pytest.mark.parametrize("shape", [(40, 300), (3000, 5), (3000, 64)])
def test_one_row_far_from_all_others_costs_the_variance_nothing(name, shape, rng):
    # the first, from which the sums start, one in the middle, and half of them
    for rows in (slice(0, 1), slice(37, 38), slice(0, shape[0] // 2)):
        x = normal(rng, shape, "float32")
        x[rows] += 1e6
        var = np.zeros(shape[1], np.float32)
        forward = kernels.get("batch_norm", name).forward
        forward(x, np.zeros_like(var), var, training=True, momentum=1)
        exact = x.astype(np.float64).var(axis=0, ddof=1)
        np.testing.assert_allclose(var, exact, rtol=8 * np.finfo(np.float32).eps)
