"""max_pool2d's GPU sources against torch, thread by thread on the host grid, or on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.gpu_checks import each_gpu, each_parallel, poisoned
from tests.kernel_checks import assert_equal, assert_within
from tests.kernel_inputs import integers, normal
from tests.pooling_cases import MAX, images
from tests.pooling_checks import by_torch
from tests.test_max_pool2d import REFUSED

HALVING = {
    f"{size}x{size} s2, {height} x {width}": (
        (2, 3, height, width),
        {"kernel_size": size, "stride": 2, "padding": size - 2, "ceil_mode": ceil},
    )
    for size in (2, 3)
    for height, width, ceil in [(6, 12, False), (5, 6, False), (7, 8, True), (1, 2, True)]
    if size == 3 or height > 1 or ceil
}
"""Those of which a thread makes one or two at a time; the rows are even or odd."""
CASES = MAX | HALVING
FIRST = [0, 1, 2, 3]
"""Where memory begins, in numbers behind a boundary of 16 bytes."""


def _pooled(run, rng):
    x = normal(rng, (2, 3, 5, 8), "float32")
    for size in (2, 3):
        arguments = {"kernel_size": size, "stride": 2, "padding": size - 2}
        for width in (8, 6, 5):
            given = np.ascontiguousarray(x[..., :width])
            output, indices = run.forward(given, **arguments, return_indices=True)
            run.backward(output, given, **arguments, indices=indices)


CALLS = [("max_pool2d", _pooled)]
"""What reaches every path of the kernels, for the sanitizers."""


@each_gpu
@pytest.mark.parametrize("case", CASES)
def test_values_and_indices_are_torch_s(gpu, implementation, case, monkeypatch):
    poisoned(monkeypatch)
    shape, arguments = CASES[case]
    operator = gpu("max_pool2d", implementation)
    for draw in (integers, normal):
        x = images(draw, shape, "float32")
        expected, where = F.max_pool2d(torch.from_numpy(x), **arguments, return_indices=True)
        values, indices = operator.forward(x, **arguments, return_indices=True)
        assert_equal(operator.forward(x, **arguments), expected.numpy())
        assert_equal(values, expected.numpy())
        assert_equal(indices, where.numpy())


@each_gpu
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_torch_s(gpu, implementation, case, monkeypatch):
    poisoned(monkeypatch)
    shape, arguments = CASES[case]
    operator = gpu("max_pool2d", implementation)
    x = images(integers, shape, "float32")
    if case == "empty windows":  # torch's own indices lie outside of the input there
        output, indices = operator.forward(x, **arguments, return_indices=True)
        grad = operator.backward(np.ones_like(output), x, **arguments, indices=indices)
        assert_equal(grad, np.zeros_like(x))
        return
    _, above, expected = by_torch("max_pool2d", x, integers, arguments)
    _, indices = operator.forward(x, **arguments, return_indices=True)
    for given in (None, indices):
        assert_equal(operator.backward(above, x, **arguments, indices=given), expected.numpy())
    _, above, expected = by_torch("max_pool2d", x, normal, arguments)
    *_, scale = _absolute(x, above, indices)
    exact = _absolute(x, above, indices)[0]
    assert_within(operator.backward(above, x, **arguments), exact, scale)


def _absolute(x, above, indices):
    """The gradient in float64, and the same of absolute values."""
    found = []
    for values in (above.astype(np.float64), abs(above).astype(np.float64)):
        flat = np.zeros((x.shape[0] * x.shape[1], x[0, 0].size))
        for plane, (places, given) in enumerate(
            zip(indices.reshape(len(flat), -1), values.reshape(len(flat), -1), strict=True)
        ):
            np.add.at(flat[plane], places, given)
        found.append(flat.reshape(x.shape))
    return found


@each_gpu
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("width", [5, 6, 8])
@pytest.mark.parametrize("size", [2, 3])
def test_nan_and_infinity_travel_as_in_torch(gpu, implementation, value, width, size):
    x = images(integers, (2, 3, 7, width), "float32")
    x[0, :, 2:4, 1:5] = value
    x[1, 1] = value
    x[1, 2, 0, 0] = value
    arguments = {"kernel_size": size, "stride": 2, "padding": size - 2}
    expected, where = F.max_pool2d(torch.from_numpy(x), **arguments, return_indices=True)
    output, indices = gpu("max_pool2d", implementation).forward(x, **arguments, return_indices=True)
    assert_equal(output, expected.numpy())
    assert_equal(indices, where.numpy())


@each_gpu
@pytest.mark.parametrize("width", [5, 6, 8])
def test_a_gradient_of_nan_stays_where_it_belongs(gpu, implementation, width):
    x = images(normal, (1, 2, 4, width), "float32")
    operator = gpu("max_pool2d", implementation)
    output, indices = operator.forward(x, 2, return_indices=True)
    grad = operator.backward(np.full_like(output, np.nan), x, 2, indices=indices)
    assert np.isnan(grad).sum() == output.size
    assert (grad[~np.isnan(grad)] == 0).all()


@each_gpu
@pytest.mark.parametrize("stray", [-1, 49, 2**32, 2**62, -(2**63)])
def test_the_gradient_of_a_stray_index_is_lost(gpu, implementation, stray):
    x = images(normal, (2, 3, 7, 7), "float32")
    operator = gpu("max_pool2d", implementation)
    output, indices = operator.forward(x, 3, 3, return_indices=True)
    above = np.ones_like(output)
    expected = operator.backward(above, x, 3, 3, indices=indices)
    expected[1, 2].flat[indices[1, 2, 0, 1]] = 0
    indices[1, 2, 0, 1] = stray
    assert_equal(operator.backward(above, x, 3, 3, indices=indices), expected)


@each_parallel
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("size", [2, 3])
def test_memory_that_begins_between_16_bytes_is_taken(gpu, implementation, first, size):
    operator = gpu("max_pool2d", implementation)
    pool = operator.on_device
    x, above = (
        torch.from_numpy(normal(np.random.default_rng(0), (count + first,), "float32")).to(
            operator.kind
        )[first:]
        for count in (2 * 6 * 8, 2 * 3 * 4)
    )
    x, above = x.reshape(1, 2, 6, 8).requires_grad_(), above.reshape(1, 2, 3, 4)
    arguments = {"kernel_size": size, "stride": 2, "padding": size - 2}
    expected, where = F.max_pool2d(x, **arguments, return_indices=True)
    expected_grad = torch.autograd.grad(expected, x, above)[0]
    odd = torch.empty(where.numel() + first, dtype=torch.int64, device=operator.kind)[first:]
    odd = odd.reshape(where.shape).copy_(where)
    assert torch.equal(pool.forward(x, **arguments), expected)
    torch.testing.assert_close(pool.backward(above, x, **arguments, indices=odd), expected_grad)


@each_gpu
def test_images_without_a_batch_and_batches_without_images_are_taken(gpu, implementation):
    operator = gpu("max_pool2d", implementation)
    x = images(integers, (3, 6, 6), "float32")
    expected, where = F.max_pool2d(torch.from_numpy(x), 2, return_indices=True)
    output, indices = operator.forward(x, 2, return_indices=True)
    assert_equal(output, expected.numpy())
    assert_equal(indices, where.numpy())
    assert operator.backward(output, x, 2).shape == x.shape
    none = np.zeros((0, 3, 6, 6), np.float32)
    output, indices = operator.forward(none, 2, return_indices=True)
    assert output.shape == indices.shape == (0, 3, 3, 3)
    assert operator.backward(output, none, 2).shape == none.shape


@each_gpu
def test_a_window_beyond_all_bounds_takes_the_whole_image(gpu, implementation):
    x = images(normal, (1, 9, 4, 5), "float32")
    arguments = {"kernel_size": 2**31 - 1, "padding": 2**30 - 1, "ceil_mode": True}
    operator = gpu("max_pool2d", implementation)
    output = operator.forward(x, **arguments)
    assert_equal(output, x.max(axis=(2, 3), keepdims=True))
    grad = operator.backward(output, x, **arguments)
    assert_equal(grad, np.where(x == output, x, 0).astype(np.float32))


@each_parallel
def test_what_cannot_be_pooled_is_refused_as_on_the_cpu(gpu, implementation):
    operator = gpu("max_pool2d", implementation)
    for shape, arguments, message in REFUSED:
        with pytest.raises(ValueError, match=message):
            operator.forward(np.ones(shape, np.float32), **arguments)
    x, y = np.ones((2, 3, 4, 4), np.float32), np.ones((2, 3, 2, 2), np.float32)
    with pytest.raises(TypeError, match=r"kernel_size must be .*, got 2\.0"):
        operator.forward(x, 2.0)
    with pytest.raises(TypeError, match="return_indices must be True or False, got 'yes'"):
        operator.forward(x, 2, return_indices="yes")
    with pytest.raises(TypeError, match="input must be float32, got float16"):
        operator.forward(x.astype(np.float16), 2)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3, 2, 2\), got"):
        operator.backward(x, x, 2)
    with pytest.raises(TypeError, match="indices must be int64, got int32"):
        operator.backward(y, x, 2, indices=y.astype(np.int32))
    with pytest.raises(ValueError, match=r"indices must have shape \(2, 3, 2, 2\), got \(1, 3"):
        operator.backward(y, x, 2, indices=y[:1].astype(np.int64))
