"""batch_norm and memory: running statistics, orders, read-only arrays, threads; refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.batch_norm import by_planes, by_rows
from tests.batch_norm_checks import (
    channels,
    check,
    either,
    every,
    truth,
)
from tests.kernel_checks import Guard, assert_equal, assert_order, by_hand, tensor
from tests.kernel_inputs import laid_out, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

ARMS = [(name, 1) for name in by_hand("batch_norm")] + [("numba_threads", 2)]


@every
@pytest.mark.parametrize("momentum", [0.1, 0, 1, 0.75])
def test_running_statistics_are_updated_in_place(name, momentum, rng):
    x = normal(rng, (3, 4, 5, 2), "float32")
    mean, var, *_ = channels(rng, 4, "float32")
    room = np.zeros((4, 6), np.float32)
    view_mean, view_var = room[::-1, 1], room[:, 4]
    view_mean[...], view_var[...] = mean, var
    kernels.get("batch_norm", name).forward(
        x, view_mean, view_var, training=True, momentum=momentum
    )
    expected = truth(x, x, mean, var, None, None, True, momentum=momentum)
    np.testing.assert_allclose(view_mean, expected[2].numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(view_var, expected[3].numpy(), rtol=1e-6)
    assert not room[:, [0, 2, 3, 5]].any(), "written beside the view"


@every
def test_running_statistics_stay_in_inference_backward_and_for_nothing(name, rng):
    x = normal(rng, (3, 4, 5, 2), "float32")
    mean, var, weight, bias = channels(rng, 4, "float32")
    before = mean.copy(), var.copy()
    operator = kernels.get("batch_norm", name)
    operator.forward(x, mean, var, weight, bias)
    operator.backward(x, x, mean, var, weight, bias, training=True)
    operator.forward(x[:0], mean, var, weight, bias, training=True)
    assert_equal(mean, before[0])
    assert_equal(var, before[1])


@every
@either
@pytest.mark.parametrize(
    "lay",
    [
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
        lambda x: np.pad(laid_out(x, "channels_last"), ((0,), (2,), (1,), (0,)))[:, 2:-2, 1:-1],
        lambda x: np.array(x.T, order="C").T,
    ],
    ids=["every second", "cut out of channels-last", "turned round"],
)
def test_input_with_gaps_or_in_another_order_is_taken(name, training, lay, rng):
    x, gy = (lay(normal(rng, (3, 4, 5, 6), "float32")) for _ in range(2))
    check(kernels.get("batch_norm", name), x, gy, channels(rng, 4, "float32"), training)


@every
@either
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 2, 3, 2)])
@pytest.mark.parametrize("change", ["none", "last", "gaps", "swapped"])
def test_results_lie_in_torch_s_order_of_memory(name, training, shape, change, rng):
    x = normal(rng, shape, "float32")
    if change == "last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    elif change == "gaps":
        x = np.moveaxis(normal(rng, (*shape[:1], *shape[2:-1], 9, shape[1]), "float32"), -1, 1)
        x = x[..., ::2]
    elif change == "swapped":
        x = np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    parameters = channels(rng, shape[1], "float32")
    given = tensor(x).requires_grad_()
    expected = F.batch_norm(given, *map(tensor, parameters), training)
    (grad,) = torch.autograd.grad(expected, given, tensor(x))
    operator = kernels.get("batch_norm", name)
    assert_order(operator.backward(x, x, *parameters, training)[0], grad)
    result = operator.forward(x, *parameters, training)
    assert_order(result, expected.detach())


@every
@either
def test_read_only_input_and_parameters_are_taken(name, training, rng):
    x = normal(rng, (3, 4, 5), "float32")
    mean, var, weight, bias = channels(rng, 4, "float32")
    expected = truth(x, x, mean, var, weight, bias, training)[0]
    for array in (x, weight, bias):
        array.flags.writeable = False
    if not training:
        mean.flags.writeable = var.flags.writeable = False
    operator = kernels.get("batch_norm", name)
    operator.backward(x, x, mean, var, weight, bias, training)
    result = operator.forward(x, mean, var, weight, bias, training)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "threads"), ARMS)
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
@either
def test_tasks_that_do_not_divide_the_work_stay_within_it(
    name, threads, memory, training, rng, monkeypatch
):
    monkeypatch.setattr(by_planes, "GRAIN", 50)
    monkeypatch.setattr(by_rows, "tasks", lambda shape: shape[0] // 10)
    guard = Guard(monkeypatch)
    x, gy = (laid_out(normal(rng, (3, 7, 5, 9), "float32"), memory) for _ in range(2))
    operator = kernels.get("batch_norm", name, threads=threads)
    check(operator, x, gy, channels(rng, 7, "float32"), training)
    guard.check()


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
@either
def test_every_number_of_threads_gives_the_same_bits(memory, training, rng):
    x, gy = (laid_out(normal(rng, (3, 70, 21, 19), "float32"), memory) for _ in range(2))
    parameters = channels(rng, 70, "float32")
    results = []
    for name, threads in (("numba_threads", 2), ("numba_threads", 1), ("numba", 1)):
        operator = kernels.get("batch_norm", name, threads=threads)
        grads = operator.backward(gy, x, *parameters, training)
        mean, var = parameters[0].copy(), parameters[1].copy()
        output = operator.forward(x, mean, var, *parameters[2:], training)
        results.append((output, *grads, mean, var))
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert_equal(second, first)


@every
def test_what_torch_refuses_is_refused(name):
    operator = kernels.get("batch_norm", name)
    x, ok = np.zeros((2, 3, 4, 5), np.float32), np.ones(3, np.float32)

    def refused(kind, match, *arguments, **options):
        with pytest.raises(kind, match=match):
            operator.forward(*arguments, **options)
        with pytest.raises(kind, match=match):
            operator.backward(arguments[0], *arguments, **options)

    refused(TypeError, "must be a NumPy array, got list", [1.0], ok, ok)
    refused(TypeError, "must be float32 or float64, got int64", np.zeros((2, 3), int), ok, ok)
    refused(TypeError, "running_mean must be a NumPy array, got str", x, "mean", ok)
    refused(TypeError, "running_var must be float32 as the input is", x, ok, ok.astype(np.float64))
    refused(TypeError, "weight must be float32 as the input is", x, ok, ok, ok.astype(np.float64))
    refused(TypeError, "bias must be a NumPy array", x, ok, ok, None, 1.0)
    refused(TypeError, "training must be True or False, got 'yes'", x, ok, ok, training="yes")
    refused(TypeError, "momentum must be a number, got None", x, ok, ok, momentum=None)
    refused(TypeError, "eps must be a number, got 'small'", x, ok, ok, eps="small")
    refused(ValueError, "input must have .* dimensions, got shape", x[0, 0, 0], ok, ok)
    refused(ValueError, r"running_mean must have shape \(3,\), got \(2,\)", x, ok[:2], ok)
    refused(ValueError, r"running_var must have shape \(3,\), got \(2,\)", x, ok, ok[:2])
    refused(ValueError, "running_mean must have 1 dimensions", x, ok[:, None], ok)
    refused(ValueError, r"weight must have shape \(3,\), got \(2,\)", x, ok, ok, ok[:2])
    refused(ValueError, r"bias must have shape \(3,\), got \(2,\)", x, ok, ok, ok, ok[:2])
    refused(ValueError, "must be given unless in training", x, None, None)
    refused(ValueError, "must both be given or both be None", x, ok, None, training=True)
    refused(ValueError, "must both be given or both be None", x, None, ok)
    refused(ValueError, "eps must be above 0 in training, got 0", x, ok, ok, training=True, eps=0)
    refused(ValueError, "eps must be at least 0, got -1", x, ok, ok, eps=-1)
    for single in (x[:1, :, 0, 0], x[:1, :, :1, :1]):
        refused(ValueError, "more than one value per channel", single, ok, ok, training=True)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3, 4, 5\), got"):
        operator.backward(x[:1], x, ok, ok)


@every
@pytest.mark.parametrize("which", ["running_mean", "running_var"])
def test_read_only_running_statistics_are_refused_in_training(name, which, rng):
    x = normal(rng, (2, 3, 4), "float32")
    running = {"running_mean": np.zeros(3, np.float32), "running_var": np.ones(3, np.float32)}
    running[which].flags.writeable = False
    operator = kernels.get("batch_norm", name)
    with pytest.raises(ValueError, match=f"{which} must be writable in training"):
        operator.forward(x, **running, training=True)
    operator.forward(x, **running)
