"""What the tests of batch_norm share: torch in float64, and how far rounding may go.

The bound is 8 u S with S = (|x - mean| + m) r |weight| + |bias|, r = 1 / sqrt(var + eps). In
training m = mean|x|, for the error of the mean as a sum; in inference m = |running_mean|, for
torch, in float64 too, multiplies before it subtracts the mean. Our own float32 results have neither
error: a test of its own holds them to m = 0. Gradients: see `scales`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from tests.kernel_checks import about, assert_within, by_hand

EPS = 1e-5

every = pytest.mark.parametrize("name", kernels.names("batch_norm"))
each_by_hand = pytest.mark.parametrize("name", by_hand("batch_norm"))
either = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


def channels(rng, count, dtype):
    """running_mean, running_var, weight, bias."""
    mean, weight, bias = rng.standard_normal((3, count)).astype(dtype)
    return mean, (rng.random(count) + 0.5).astype(dtype), weight, bias


def wide(array):
    return None if array is None else torch.from_numpy(np.array(array, np.float64))


def truth(x, gy, mean, var, weight, bias, training, **options):
    """torch in float64: output, its gradients by name, running statistics afterwards."""
    x, gy, mean, var, weight, bias = map(wide, (x, gy, mean, var, weight, bias))
    wanted = {"input": x, "weight": weight, "bias": bias}
    wanted = {name: value.requires_grad_() for name, value in wanted.items() if value is not None}
    output = F.batch_norm(x, mean, var, weight, bias, training, **options)
    grads = torch.autograd.grad(output, list(wanted.values()), gy)
    grads = {name: grad.numpy() for name, grad in zip(wanted, grads, strict=True)}
    return output.detach().numpy(), grads, mean, var


def scales(x, gy, mean, var, weight, bias, training):
    """The operator and its gradients on absolute values, in float64.

    With n = (|x - mean| + m) r for the normalised input: r |weight| (|gy| + mean|gy| +
    n mean(|gy| n)) for the input's, the sums of |gy| n and |gy| for weight's and bias'.
    """
    axes = (0, *range(2, x.ndim))
    x, gy = x.astype(np.float64), abs(gy.astype(np.float64))

    def over(values):
        return np.asarray(values, np.float64).reshape(-1, *[1] * (x.ndim - 2))

    if training:
        mean, var = x.mean(axis=axes), x.var(axis=axes)
    r = 1 / np.sqrt(var.astype(np.float64) + EPS)
    slack = abs(x).mean(axis=axes) if training else abs(mean)
    normal = (abs(x - over(mean)) + over(slack)) * over(r)
    factor = over(abs(r * weight))
    grad_input = factor * gy
    if training:
        both = over(gy.mean(axis=axes)) + normal * over((gy * normal).mean(axis=axes))
        grad_input = grad_input + factor * both
    grads = {
        "input": grad_input,
        "weight": (gy * normal).sum(axis=axes),
        "bias": gy.sum(axis=axes),
    }
    return normal * over(abs(weight)) + over(abs(bias)), grads


def check(operator, x, gy, parameters, training):
    """Output, gradients and running statistics within the bound."""
    output, grads, running_mean, running_var = truth(x, gy, *parameters, training)
    scale, grad_scales = scales(x, gy, *parameters, training)
    mean, var, weight, bias = parameters
    ours = operator.backward(gy, x, mean, var, weight, bias, training)
    mean, var = mean.copy(), var.copy()
    with about("output"):
        result = operator.forward(x, mean, var, weight, bias, training)
        assert result.dtype == x.dtype
        assert_within(result, output, scale)
    for (name, exact), grad in zip(grads.items(), ours, strict=True):
        with about(f"gradient of {name}"):
            assert grad.dtype == x.dtype
            assert_within(grad, exact, grad_scales[name])
    unit = np.finfo(x.dtype).eps / 2
    np.testing.assert_allclose(mean, running_mean.numpy(), rtol=8 * unit, atol=8 * unit)
    np.testing.assert_allclose(var, running_var.numpy(), rtol=8 * unit)
