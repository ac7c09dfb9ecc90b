"""GPU sources of avg_pool2d and adaptive_avg_pool2d against torch, on the host grid or a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.gpu_checks import each_gpu, each_parallel, poisoned
from tests.kernel_checks import assert_equal, assert_within
from tests.kernel_inputs import integers, normal
from tests.pooling_cases import ADAPTIVE, AVG, images
from tests.pooling_checks import by_torch
from tests.test_avg_pool2d import EXACT

HALVING = {
    f"2x2 s2, {height} x {width}": (
        (2, 3, height, width),
        {"kernel_size": 2, "ceil_mode": ceil, "count_include_pad": ceil},
    )
    for height, width, ceil in [(6, 12, False), (5, 6, False), (7, 8, True), (1, 2, True)]
}
"""Those of which a thread makes one or two at a time; the rows are even or odd."""
TEAMS = {
    "whole, a warp": ((3, 3, 7, 7), {"kernel_size": 7}),
    "whole, a block": ((1, 3, 23, 25), {"kernel_size": (23, 25)}),
    "rows of it": ((2, 5, 9, 6), {"kernel_size": (4, 6), "stride": (2, 1)}),
    "many rows of it": ((1, 2, 90, 14), {"kernel_size": (40, 14), "stride": (50, 1)}),
    "whole, and padding": ((2, 3, 4, 5), {"kernel_size": (8, 9), "padding": (2, 2)}),
}
LARGE = {
    "all, a block": ((2, 3, 24, 25), {"output_size": 1}),
    "rows alone, a block": ((1, 3, 55, 23), {"output_size": (2, 1)}),
}
CASES = {"avg_pool2d": AVG | HALVING | TEAMS, "adaptive_avg_pool2d": ADAPTIVE | LARGE}
POWERS = {
    "avg_pool2d": [*EXACT, *HALVING],
    "adaptive_avg_pool2d": ["all, of powers of two", "dividing", "as it is", "one pixel"],
}
"""Divided by powers of two, so that gradients of whole numbers are exact."""

each_case = pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name in CASES for case in CASES[name]]
)


def _pooled(run, rng):
    for shape, kernel_size in [((1, 2, 5, width), 2) for width in (8, 6, 5)] + [
        ((3, 3, 3, 3), 3),
        ((2, 1, 23, 25), (23, 25)),
    ]:
        x = normal(rng, shape, "float32")
        run.backward(run.forward(x, kernel_size), x, kernel_size)


def _adapted(run, rng):
    for shape, size in [((1, 2, 5, 7), (2, 3)), ((3, 2, 5, 7), 1)]:
        x = normal(rng, shape, "float32")
        run.backward(run.forward(x, size), x, size)


CALLS = [("avg_pool2d", _pooled), ("adaptive_avg_pool2d", _adapted)]
"""What reaches every path of the kernels, for the sanitizers."""


@each_gpu
@each_case
def test_outputs_are_torch_s(gpu, implementation, name, case, monkeypatch):
    poisoned(monkeypatch)
    shape, arguments = CASES[name][case]
    average, operator = getattr(F, name), gpu(name, implementation)
    x = images(normal, shape, "float32")
    exact = torch.from_numpy(x).double()
    truth, scale = (average(values, **arguments).numpy() for values in (exact, exact.abs()))
    assert_within(operator.forward(x, **arguments), truth, np.abs(scale))
    if name == "avg_pool2d" or case in POWERS[name]:
        x = images(integers, shape, "float32")
        assert_equal(
            operator.forward(x, **arguments), average(torch.from_numpy(x), **arguments).numpy()
        )


@each_gpu
@each_case
def test_gradients_are_torch_s(gpu, implementation, name, case, monkeypatch):
    poisoned(monkeypatch)
    shape, arguments = CASES[name][case]
    operator = gpu(name, implementation)
    x = images(normal, shape, "float32")
    _, above, _ = by_torch(name, x, normal, arguments)
    given = torch.from_numpy(x).double().requires_grad_()
    output = getattr(F, name)(given, **arguments)
    truth, scale = (
        torch.autograd.grad(output, given, torch.from_numpy(values), retain_graph=True)[0].numpy()
        for values in (above.astype(np.float64), abs(above).astype(np.float64))
    )
    assert_within(operator.backward(above, x, **arguments), truth, np.abs(scale))
    if case in POWERS[name]:
        _, above, expected = by_torch(name, x, integers, arguments)
        assert_equal(operator.backward(above, x, **arguments), expected.numpy())


@each_gpu
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("avg_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("avg_pool2d", {"kernel_size": 2}),
        ("avg_pool2d", {"kernel_size": (3, 6)}),
        ("adaptive_avg_pool2d", {"output_size": 1}),
    ],
)
def test_nan_and_infinity_travel_as_in_torch(gpu, implementation, value, name, arguments):
    x = images(integers, (2, 3, 7, 6), "float32")
    x[0, :2, 2:4, 1:5] = value
    x[1, 1, 4, 4] = np.inf
    x[1, 2, 0, 0] = value
    output = gpu(name, implementation).forward(x, **arguments)
    expected = getattr(F, name)(torch.from_numpy(x), **arguments).numpy()
    finite = np.isfinite(expected)
    assert_equal(output[~finite], expected[~finite])
    np.testing.assert_allclose(output[finite], expected[finite], rtol=1e-6, atol=1e-6)


@each_gpu
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("width", [5, 6, 8])
def test_a_gradient_of_nan_or_infinity_stays_where_it_belongs(gpu, implementation, value, width):
    x = images(integers, (1, 3, 5, width), "float32")
    above = np.ones((1, 3, 2, width // 2), np.float32)
    above[0, 1, 1, 1] = value
    grad = gpu("avg_pool2d", implementation).backward(above, x, 2)
    assert (~np.isfinite(grad)).sum() == 4
    assert not np.isfinite(grad[0, 1, 2:4, 2:4]).any()


@each_parallel
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_memory_that_begins_between_16_bytes_is_taken(gpu, implementation, first):
    operator = gpu("avg_pool2d", implementation)
    x, above = (
        torch.from_numpy(integers(np.random.default_rng(0), (count + first,), "float32"))
        .to(operator.kind)[first:]
        for count in (2 * 6 * 8, 2 * 3 * 4)
    )  # fmt: skip
    x, above = x.reshape(1, 2, 6, 8).requires_grad_(), above.reshape(1, 2, 3, 4)
    expected = F.avg_pool2d(x, 2)
    assert torch.equal(operator.on_device.forward(x, 2), expected)
    (expected,) = torch.autograd.grad(expected, x, above)
    assert torch.equal(operator.on_device.backward(above, x, 2), expected)


@each_gpu
def test_images_without_a_batch_and_batches_without_images_are_taken(gpu, implementation):
    for name, size in (("avg_pool2d", 2), ("adaptive_avg_pool2d", 3), ("adaptive_avg_pool2d", 1)):
        operator, average = gpu(name, implementation), getattr(F, name)
        x = images(integers, (3, 6, 6), "float32")
        np.testing.assert_allclose(
            operator.forward(x, size), average(torch.from_numpy(x), size).numpy(), rtol=1e-6
        )
        none = np.zeros((0, 3, 6, 6), np.float32)
        output = operator.forward(none, size)
        assert_equal(output, average(torch.from_numpy(none), size).numpy())
        assert operator.backward(output, none, size).shape == none.shape


@each_gpu
@pytest.mark.parametrize("shape", [(2, 3, 0, 5), (3, 0, 0), (0, 3, 0, 2)])
def test_the_mean_of_an_image_without_pixels_is_nan(gpu, implementation, shape):
    x = np.ones(shape, np.float32)
    operator = gpu("adaptive_avg_pool2d", implementation)
    output = operator.forward(x, 1)
    assert_equal(output, F.adaptive_avg_pool2d(torch.from_numpy(x), 1).numpy())
    assert operator.backward(output, x, 1).shape == shape


@each_gpu
def test_an_output_of_size_zero_is_empty_and_has_no_gradient(gpu, implementation):
    x = np.ones((2, 3, 6, 6), np.float32)
    operator = gpu("adaptive_avg_pool2d", implementation)
    output = operator.forward(x, (0, 2))
    assert_equal(output, F.adaptive_avg_pool2d(torch.from_numpy(x), (0, 2)).numpy())
    with pytest.raises(ValueError, match="grad_output may be empty in its batch alone"):
        operator.backward(output, x, (0, 2))


@each_gpu
def test_a_window_beyond_all_bounds_takes_the_whole_image(gpu, implementation):
    x = images(integers, (1, 9, 4, 4), "float32")
    operator = gpu("avg_pool2d", implementation)
    output = operator.forward(x, 2**30, ceil_mode=True)
    assert_equal(output, x.mean(axis=(2, 3), keepdims=True))
    grad = operator.backward(output, x, 2**30, ceil_mode=True)
    assert_equal(grad, np.broadcast_to(output / 16, x.shape).astype(np.float32))


@each_parallel
def test_what_cannot_be_averaged_is_refused_as_on_the_cpu(gpu, implementation):
    pool, adaptive = gpu("avg_pool2d", implementation), gpu("adaptive_avg_pool2d", implementation)
    x = np.ones((2, 3, 6, 5), np.float32)
    for operator in (pool, adaptive):
        with pytest.raises(ValueError, match="input must have 3 or 4 dimensions"):
            operator.forward(x[0, 0], 2)
        with pytest.raises(TypeError, match="input must be float32, got float16"):
            operator.forward(x.astype(np.float16), 2)
        with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3, "):
            operator.backward(x, x, 2)
    for _ in range(2):  # whatever is remembered
        pool.forward(x, 1)
        with pytest.raises(TypeError, match="kernel_size must be a whole number, got True"):
            pool.forward(x, True)
        with pytest.raises(ValueError, match="divisor_override must not be 0"):
            pool.forward(x, 2, divisor_override=0)
        with pytest.raises(TypeError, match="output_size must be a whole number, got None"):
            adaptive.forward(x, None)
