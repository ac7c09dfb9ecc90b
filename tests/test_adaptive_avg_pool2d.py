"""What is particular to adaptive_avg_pool2d: sizes, empty output; the rest is in test_pool2d.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F

import kernels
from tests.kernel_checks import assert_equal, assert_order, each_dtype, each_memory, tensor
from tests.kernel_inputs import integers, laid_out, normal
from tests.pooling_cases import ADAPTIVE as CASES
from tests.pooling_cases import images
from tests.pooling_checks import assert_refused, by_torch

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

IMPLEMENTATIONS = kernels.names("adaptive_avg_pool2d")

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def adaptive(implementation, threads=None):
    return kernels.get("adaptive_avg_pool2d", implementation, threads)


@each_implementation
@each_memory
@each_dtype
@pytest.mark.parametrize("case", ["all, of powers of two", "dividing", "as it is", "one pixel"])
def test_integers_are_exact(implementation, memory, dtype, case):
    shape, arguments = CASES[case]
    x = images(integers, shape, dtype, memory)
    expected, grad_output, expected_grad = by_torch("adaptive_avg_pool2d", x, integers, arguments)
    operator = adaptive(implementation)
    output = operator.forward(x, **arguments)
    assert_equal(output, expected.numpy())
    assert_order(output, expected)
    grad = operator.backward(laid_out(grad_output, memory), x, **arguments)
    assert_equal(grad, expected_grad.numpy())


@each_implementation
@each_memory
@pytest.mark.parametrize("size", [1, (3, 2)])
def test_a_gradient_lies_in_memory_as_the_input_does(implementation, memory, size):
    # torch's does too but for an output of 1 x 1, where it makes a contiguous one.
    x = images(normal, (2, 17, 7, 6), "float32", memory)
    operator = adaptive(implementation)
    grad = operator.backward(operator.forward(x, size), x, size)
    _, _, expected = by_torch("adaptive_avg_pool2d", x, normal, {"output_size": (3, 2)})
    assert_order(grad, expected)


@each_implementation
@each_memory
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, (3, 4)])
def test_nan_and_infinity_travel_as_in_torch(implementation, memory, value, size):
    x = images(integers, (2, 17, 6, 8), "float32")
    x[0, :, 2:4, 1:5] = value
    x[1, 3, 4, 4] = np.inf
    x[1, 3, 4, 5] = value
    x = laid_out(x, memory)
    output = adaptive(implementation).forward(x, size)
    expected = F.adaptive_avg_pool2d(tensor(x), size).numpy()
    finite = np.isfinite(expected)
    assert not finite.all()
    assert_equal(output[~finite], expected[~finite])
    assert np.isfinite(output[finite]).all()


@each_implementation
@pytest.mark.parametrize("size", [1, (2, 3)])
@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (2, 0, 6, 6), (0, 6, 6)])
def test_nothing_in_gives_nothing_out(implementation, shape, size):
    x = np.ones(shape, np.float32)
    output = adaptive(implementation).forward(x, size)
    assert_equal(output, F.adaptive_avg_pool2d(tensor(x), size).numpy())


@each_implementation
@pytest.mark.parametrize("size", [1, (1, 1)])
@pytest.mark.parametrize("shape", [(2, 3, 0, 5), (2, 3, 4, 0), (3, 0, 0), (0, 3, 0, 2)])
def test_the_mean_of_an_image_without_pixels_is_nan(implementation, shape, size):
    x = np.ones(shape, np.float32)
    output = adaptive(implementation).forward(x, size)
    assert_equal(output, F.adaptive_avg_pool2d(tensor(x), size).numpy())
    assert np.isnan(output).all()
    assert adaptive(implementation).backward(output, x, size).shape == shape


@each_implementation
@pytest.mark.parametrize("size", [0, (0, 2), (2, 0)])
def test_an_output_of_size_zero_is_empty_and_has_no_gradient(implementation, size):
    x = np.ones((2, 3, 6, 6), np.float32)
    operator = adaptive(implementation)
    output = operator.forward(x, size)
    assert_equal(output, F.adaptive_avg_pool2d(tensor(x), size).numpy())
    with pytest.raises(RuntimeError, match="non-zero size"):
        by_torch("adaptive_avg_pool2d", x, normal, {"output_size": size})
    with pytest.raises(ValueError, match="grad_output may be empty in its batch alone"):
        operator.backward(output, x, size)


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((6, 5), 2, "input must have 3 or 4 dimensions"),
        ((1, 2, 3, 6, 5), 2, "input must have 3 or 4 dimensions"),
        ((2, 3, 0, 5), 2, "input must have a height and a width"),
        ((2, 3, 6, 0), (None, 2), "input must have a height and a width"),
        ((2, 3, 6, 5), -1, "output_size must be at least 0, got -1"),
        ((2, 3, 6, 5), (2, -1), "output_size must be at least 0, got -1"),
        ((2, 3, 6, 5), (1, 2, 3), r"output_size must be .* pair of them, got \(1, 2, 3\)"),
        ((2, 3, 6, 5), (3,), "output_size must be a whole number or a pair"),
    ],
)
def test_shapes_and_numbers_that_torch_refuses_are_value_errors(shape, size, message):
    x = np.ones(shape, np.float32)
    assert_refused("adaptive_avg_pool2d", ValueError, x, {"output_size": size}, message)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (2.0, "output_size must be a whole number, got 2.0"),
        (True, "output_size must be a whole number, got True"),
        (None, "output_size must be a whole number, got None"),
        ((2, 1.5), "output_size must be a whole number, got 1.5"),
    ],
)
def test_sizes_of_another_kind_are_type_errors(size, message):
    x = np.ones((2, 3, 6, 5), np.float32)
    assert_refused("adaptive_avg_pool2d", TypeError, x, {"output_size": size}, message)
