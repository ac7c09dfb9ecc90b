"""batch_norm's GPU sources against torch, thread by thread on the host grid, or on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kernels.batch_norm import device_statistics
from tests.batch_norm_checks import EPS, channels, check, either, scales, truth, wide
from tests.gpu_checks import each_gpu, each_parallel, poisoned
from tests.kernel_checks import about, assert_equal, assert_within
from tests.kernel_inputs import integers, normal
from tests.test_batch_norm import SHAPES

LARGER = [(70, 2), (3, 2, 9, 7), (5, 3, 8, 8), (2, 2, 40, 16), (4, 1, 13, 11), (600, 3, 2)]
"""Rows of one unit, of less than a warp and of more, in float4 and one by one; several workers."""


def _normalised(run, rng):
    with pytest.MonkeyPatch.context() as patch:
        for small in (0, device_statistics.SMALL):
            patch.setattr(device_statistics, "SMALL", small)
            _normalised_so(run, rng)


def _normalised_so(run, rng):
    for shape in [(70, 2), (3, 2, 9), (5, 2, 16), (2, 2, 21, 12)]:
        x, parameters = normal(rng, shape, "float32"), channels(rng, shape[1], "float32")
        for training in (True, False):
            run.forward(x, *parameters, training)
            run.backward(x, x, *parameters, training)


CALLS = [("batch_norm", _normalised)]
"""What reaches every path of the kernels, for the sanitizers."""


@each_gpu
@pytest.mark.parametrize("mode", ["inference", "training, small", "training"])
@pytest.mark.parametrize("shape", SHAPES + LARGER, ids=str)
def test_rounding_stays_within_the_bound(gpu, implementation, mode, shape, rng, monkeypatch):
    poisoned(monkeypatch)
    training = mode != "inference"
    if mode == "training":
        monkeypatch.setattr(device_statistics, "SMALL", 0)
    x, gy = (normal(rng, shape, "float32") for _ in range(2))
    check(InPlace(gpu("batch_norm", implementation)), x, gy, channels(rng, shape[1], "float32"),
          training)  # fmt: skip


class InPlace:
    """An operator on arrays that updates those of the running statistics, wherever it runs."""

    def __init__(self, on_arrays):
        self._on_arrays = on_arrays
        self.backward = on_arrays.backward

    def forward(self, x, *parameters_and_training, **options):
        mean, var, *rest = parameters_and_training
        kind = self._on_arrays.kind
        running = [
            None if each is None else torch.from_numpy(each.copy()).to(kind) for each in (mean, var)
        ]
        result = self._on_arrays.forward(x, *running, *rest, **options)
        for each, tensor in zip((mean, var), running, strict=True):
            if each is not None:
                each[...] = tensor.cpu().numpy()
        return result


@each_parallel
@pytest.mark.parametrize("shape", [(300, 2, 3), (7, 2, 20, 10)])
def test_many_workers_a_channel_stay_within_the_bound(gpu, implementation, shape, rng, monkeypatch):
    monkeypatch.setattr(device_statistics, "SMALL", 0)
    x, gy = (normal(rng, shape, "float32") for _ in range(2))
    cuts = [device_statistics.cut_of(shape[0], 2, int(np.prod(shape[2:])), each) for each in (1, 4)]
    assert max(cut.workers for cut in cuts) > 1
    check(InPlace(gpu("batch_norm", implementation)), x, gy, channels(rng, 2, "float32"), True)


@each_gpu
def test_integers_are_exact_in_inference(gpu, implementation, rng):
    x, gy = (integers(rng, (2, 3, 4, 5), "float32") for _ in range(2))
    mean, weight, bias = integers(rng, (3, 3), "float32")
    var = np.array([1, 4, 0.25], np.float32)
    output, grads, *_ = truth(x, gy, mean, var, weight, bias, False, eps=0)
    operator = gpu("batch_norm", implementation)
    assert_equal(operator.forward(x, mean, var, weight, bias, eps=0), output.astype(np.float32))
    ours = operator.backward(gy, x, mean, var, weight, bias, eps=0)
    for (what, exact), grad in zip(grads.items(), ours, strict=True):
        with about(f"gradient of {what}"):
            assert_equal(grad, exact.astype(np.float32))


@each_gpu
@either
@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (9, 3, 7)])
def test_a_mean_far_from_zero_costs_nothing(gpu, implementation, training, shape, rng):
    x = (normal(rng, shape, "float32") + 4096).astype(np.float32)
    mean, var = np.full(3, 4096.25, np.float32), np.ones(3, np.float32)
    wide_x = x.astype(np.float64)
    centre, spread = mean[0], var[0]
    axes = (0, *range(2, x.ndim))
    if training:
        centre, spread = (f(axis=axes, keepdims=True) for f in (wide_x.mean, wide_x.var))
    exact = (wide_x - centre) / np.sqrt(spread + EPS)
    result = gpu("batch_norm", implementation).forward(x, mean, var, training=training)
    # a mean in float32 rounds with what it is the mean of, here the distances from a number near by
    around = abs(exact).mean(axis=axes, keepdims=True) if training else 0
    assert_within(result, exact, abs(exact) + around)


@each_gpu
@pytest.mark.parametrize("shape", [(40, 30), (5, 3, 20), (200, 3)])
def test_one_row_far_from_all_others_costs_the_variance_nothing(gpu, implementation, shape, rng):
    for rows in (slice(0, 1), slice(3, 4), slice(0, shape[0] // 2)):
        x = normal(rng, shape, "float32")
        x[rows] += 1e6
        var = np.zeros(shape[1], np.float32)
        operator = InPlace(gpu("batch_norm", implementation))
        operator.forward(x, np.zeros_like(var), var, training=True, momentum=1)
        exact = x.astype(np.float64).var(axis=(0, *range(2, x.ndim)), ddof=1)
        np.testing.assert_allclose(var, exact, rtol=8 * np.finfo(np.float32).eps)


@each_gpu
@either
@pytest.mark.parametrize("given", ["none", "weight", "bias"])
def test_weight_and_bias_may_be_left_out(gpu, implementation, training, given, rng):
    x, gy = (normal(rng, (3, 4, 5, 2), "float32") for _ in range(2))
    mean, var, weight, bias = channels(rng, 4, "float32")
    weight, bias = weight if given == "weight" else None, bias if given == "bias" else None
    output, grads, *_ = truth(x, gy, mean, var, weight, bias, training)
    operator = gpu("batch_norm", implementation)
    ours = operator.backward(gy, x, mean, var, weight, bias, training)
    for what, grad in zip(("input", "weight", "bias"), ours, strict=True):
        assert (grad is None) == (what not in grads)
        if grad is not None:
            np.testing.assert_allclose(grad, grads[what], rtol=1e-5, atol=1e-5)
    result = operator.forward(x, mean, var, weight, bias, training)
    np.testing.assert_allclose(result, output, rtol=1e-5, atol=1e-6)


@each_gpu
@either
def test_gradients_that_are_not_needed_are_none(gpu, implementation, training, rng):
    x, parameters = normal(rng, (3, 4, 5), "float32"), channels(rng, 4, "float32")
    backward = gpu("batch_norm", implementation).backward
    full = backward(x, x, *parameters, training=training)
    for wanted in range(3):
        needs = tuple(i == wanted for i in range(3))
        some = backward(x, x, *parameters, training=training, needs=needs)
        assert [grad is not None for grad in some] == list(needs)
        assert_equal(some[wanted], full[wanted])


@each_gpu
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (70, 3)])
def test_saved_statistics_serve_the_gradients(gpu, implementation, shape, rng):
    x, gy = (normal(rng, shape, "float32") for _ in range(2))
    parameters = channels(rng, 3, "float32")
    operator = gpu("batch_norm", implementation)
    plain = operator.forward(x, None, None, *parameters[2:], training=True)
    output, mean, invstd = operator.forward(
        x, None, None, *parameters[2:], training=True, return_statistics=True
    )
    assert_equal(output, plain)
    _, *expected = torch.native_batch_norm(wide(x), None, None, None, None, True, 0.1, EPS)
    unit = np.finfo(np.float32).eps / 2
    for statistic, exact in zip((mean, invstd), expected, strict=True):
        np.testing.assert_allclose(statistic, exact.numpy(), rtol=8 * unit, atol=8 * unit)
    saved = {"save_mean": mean, "save_invstd": invstd}
    _, exact, *_ = truth(x, gy, *parameters, True)
    _, grad_scales = scales(x, gy, *parameters, True)
    grads = operator.backward(gy, x, *parameters, training=True, **saved)
    for (what, wanted), grad in zip(exact.items(), grads, strict=True):
        with about(f"gradient of {what}"):
            assert_within(grad, wanted, grad_scales[what])
    others = {"save_mean": mean + 9, "save_invstd": invstd}
    for training in (True, False):  # they count in training alone
        one, other = (
            operator.backward(gy, x, *parameters, training, **given)[1] for given in (saved, others)
        )
        assert np.array_equal(one, other) != training


@each_gpu
@either
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 0, 4, 5), (0, 3)])
def test_empty_batches_give_empty_output_and_no_gradients(gpu, implementation, training, shape):
    x, zero = np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)
    operator = gpu("batch_norm", implementation)
    assert operator.forward(x, zero, zero, zero, zero, training).shape == shape
    grads = operator.backward(x, x, zero, zero, zero, zero, training)
    for grad, like in zip(grads, (x, zero, zero), strict=True):
        assert_equal(grad, np.zeros_like(like))
    if training:
        _, *saved = operator.forward(x, None, None, training=True, return_statistics=True)
        for statistic in saved:
            assert_equal(statistic, np.full(shape[1], np.nan, np.float32))


@each_gpu
@either
@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 5, 3, 3), (24, 5)])
def test_nan_and_infinity_stay_in_their_channel_as_in_torch(
    gpu, implementation, training, shape, rng
):
    x = normal(rng, shape, "float32")
    x[0, 0].flat[0], x[1, 1].flat[-1], x[0, 2].flat[0] = np.nan, np.inf, -np.inf
    parameters = channels(rng, 5, "float32")
    mean, var = parameters[0].copy(), parameters[1].copy()
    output, grads, running_mean, running_var = truth(x, x, *parameters, training)
    operator = InPlace(gpu("batch_norm", implementation))
    ours = operator.backward(x, x, *parameters, training)
    result = operator.forward(x, mean, var, *parameters[2:], training)
    np.testing.assert_allclose(result, output, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(var, running_var.numpy(), rtol=1e-5)
    for grad, exact in zip(ours, grads.values(), strict=True):
        np.testing.assert_allclose(grad, exact, rtol=1e-4, atol=1e-4)


@each_gpu
def test_odd_running_statistics_give_what_torch_gives(gpu, implementation, rng):
    x = normal(rng, (2, 6, 3, 4), "float32")
    mean = np.array([np.inf, -np.inf, np.nan, 0, 0, 1], np.float32)
    var = np.array([1, 1, 1, 0, -1, np.inf], np.float32)
    expected = F.batch_norm(*map(torch.from_numpy, (x, mean, var))).numpy()
    result = gpu("batch_norm", implementation).forward(x, mean, var)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@each_gpu
@either
@pytest.mark.parametrize("value", [0.0, 3.5])
def test_channels_without_variance_are_the_bias(gpu, implementation, training, value):
    x = np.full((2, 3, 4, 5), value, np.float32)
    mean, var = np.full(3, value, np.float32), np.zeros(3, np.float32)
    bias = np.arange(3, dtype=np.float32)
    result = gpu("batch_norm", implementation).forward(x, mean, var, None, bias, training)
    assert_equal(result, np.broadcast_to(bias[:, None, None], x.shape))


@each_parallel
@pytest.mark.parametrize("first", [1, 2, 3])
def test_memory_that_begins_between_16_bytes_is_taken(gpu, implementation, first, rng):
    operator = gpu("batch_norm", implementation)
    moved = torch.from_numpy(normal(rng, (2 * 3 * 8 + first,), "float32")).to(operator.kind)
    x = moved[first:].reshape(2, 3, 8)
    norm = operator.on_device
    for training in (True, False):
        arguments = (torch.zeros(3, device=operator.kind), torch.ones(3, device=operator.kind))
        expected = F.batch_norm(x, *(each.clone() for each in arguments), training=training)
        torch.testing.assert_close(norm.forward(x, *arguments, training=training), expected)
        one, other = (norm.backward(each, each, *arguments, training=training)[0]
                      for each in (x, x.clone()))  # fmt: skip
        torch.testing.assert_close(one, other)


@each_parallel
def test_what_cannot_be_normalised_is_refused(gpu, implementation):
    norm, kind = gpu("batch_norm", implementation).on_device, gpu("batch_norm", implementation).kind
    x, ok = torch.zeros(2, 3, 4, device=kind), torch.ones(3, device=kind)
    few = torch.zeros(1, 3, 1, device=kind)
    refused = [
        (TypeError, "input must be float32, got float16", (x.half(), ok, ok), {}),
        (TypeError, "weight must be a torch tensor, got float", (x, ok, ok, 1.0), {}),
        (ValueError, r"bias must have shape \(3,\), got \(2,\)", (x, ok, ok, ok, ok[:2]), {}),
        (ValueError, "must both be given or both be None", (x, ok, None), {}),
        (ValueError, "must be given unless in training", (x, None, None), {}),
        (ValueError, "more than one value per channel", (few, ok, ok), {"training": True}),
        (ValueError, "eps must be at least 0, got -1", (x, ok, ok), {"eps": -1.0}),
        (ValueError, "eps must be above 0 in", (x, ok, ok), {"eps": 0, "training": True}),
        (TypeError, "momentum must be a number, got '1'", (x, ok, ok), {"momentum": "1"}),
        (TypeError, "training must be True or False, got 1", (x, ok, ok), {"training": 1}),
        (ValueError, "must be False unless in training", (x, ok, ok), {"return_statistics": True}),
    ]
    for kind_of_error, message, arguments, options in refused:
        for _ in range(2):  # whatever is remembered
            with pytest.raises(kind_of_error, match=message):
                norm.forward(*arguments, **options)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3, 4\), got \(2, 3\)"):
        norm.backward(x[:, :, 0].contiguous(), x, ok, ok)
    with pytest.raises(ValueError, match="save_mean and save_invstd must both be given"):
        norm.backward(x, x, ok, ok, training=True, save_mean=ok)
    with pytest.raises(ValueError, match=r"save_invstd must have shape \(3,\), got \(2,\)"):
        norm.backward(x, x, ok, ok, training=True, save_mean=ok, save_invstd=ok[:2])
