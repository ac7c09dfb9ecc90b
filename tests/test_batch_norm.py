"""batch_norm against torch.

The bound is 8 u S with S = (|x - mean| + m) r |weight| + |bias|, r = 1 / sqrt(var + eps). In
training m = mean|x|, for the error of the mean as a sum; in inference m = |running_mean|, for
torch, in float64 too, multiplies before it subtracts the mean. Our own float32 results have neither
error: a test of its own holds them to m = 0. Gradients: see `scales`.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_checks import (
    DTYPES,
    FORMATS,
    Guard,
    about,
    assert_equal,
    assert_order,
    assert_within,
    integers,
    laid_out,
    normal,
    tensor,
)

import kernels
from kernels.batch_norm import by_planes, by_rows

NAMES = kernels.names("batch_norm")
OURS = [name for name in NAMES if name != "torch"]
ARMS = [(name, 1) for name in OURS] + [("numba_threads", 2)]
SHAPES = [(7, 3), (2, 3, 5), (2, 3, 4, 5), (3, 300, 1, 1), (2, 3, 2, 3, 4), (2, 3, 2, 1, 2, 2)]
EPS = 1e-5

every = pytest.mark.parametrize("name", NAMES)
ours = pytest.mark.parametrize("name", OURS)
each_memory = pytest.mark.parametrize("memory", FORMATS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
either = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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


@ours
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
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 0, 4, 5), (0, 3)])
def test_empty_batches_give_empty_output_and_no_gradients(name, training, shape):
    x, zero = np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)
    operator = kernels.get("batch_norm", name)
    assert operator.forward(x, zero, zero, zero, zero, training).shape == shape
    grads = operator.backward(x, x, zero, zero, zero, zero, training)
    for grad, like in zip(grads, (x, zero, zero), strict=True):
        assert_equal(grad, np.zeros_like(like))


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


@ours
@either
@pytest.mark.parametrize("value", [0.0, 3.5])
def test_channels_without_variance_are_the_bias(name, training, value):
    x = np.full((2, 3, 4, 5), value, np.float32)
    mean, var = np.full(3, value, np.float32), np.zeros(3, np.float32)
    bias = np.arange(3, dtype=np.float32)
    result = kernels.get("batch_norm", name).forward(x, mean, var, None, bias, training)
    assert_equal(result, np.broadcast_to(bias[:, None, None], x.shape))


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
