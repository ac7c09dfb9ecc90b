"""What is particular to avg_pool2d: exact means, NaN, divisors; the rest is in test_pool2d.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F

import kernels
from tests.kernel_checks import assert_equal, assert_order, by_hand, each_dtype, each_memory, tensor
from tests.kernel_inputs import integers, laid_out
from tests.pooling_cases import AVG as CASES
from tests.pooling_cases import images
from tests.pooling_checks import assert_refused, by_torch

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

IMPLEMENTATIONS = kernels.names("avg_pool2d")

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
each_case = pytest.mark.parametrize("case", CASES)

EXACT = ["2x2", "1x1", "divisor 4", "divisor -2"]
"""Divided by powers of two."""


def avg_pool2d(implementation, threads=None):
    return kernels.get("avg_pool2d", implementation, threads)


@each_implementation
@each_memory
@each_dtype
@each_case
def test_means_of_integers_are_exact(implementation, memory, dtype, case):
    shape, arguments = CASES[case]
    x = images(integers, shape, dtype, memory)
    expected = F.avg_pool2d(tensor(x), **arguments)
    output = avg_pool2d(implementation).forward(x, **arguments)
    assert_equal(output, expected.numpy())
    assert_order(output, expected)


@each_implementation
@each_memory
@each_dtype
@pytest.mark.parametrize("case", EXACT)
def test_gradients_of_integers_are_exact(implementation, memory, dtype, case):
    shape, arguments = CASES[case]
    x = images(integers, shape, dtype, memory)
    _, grad_output, expected = by_torch("avg_pool2d", x, integers, arguments)
    grad = avg_pool2d(implementation).backward(laid_out(grad_output, memory), x, **arguments)
    assert_equal(grad, expected.numpy())
    assert_order(grad, expected)


@each_implementation
@each_memory
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_travel_as_in_torch(implementation, memory, value):
    x = images(integers, (2, 17, 7, 6), "float32")
    x[0, :, 2:4, 1:5] = value
    x[1, 3, 4, 4] = np.inf
    x[1, 16, 0, 0] = value
    x = laid_out(x, memory)
    arguments = {"kernel_size": 3, "stride": 2, "padding": 1}
    output = avg_pool2d(implementation).forward(x, **arguments)
    assert_equal(output, F.avg_pool2d(tensor(x), **arguments).numpy())


@each_implementation
@each_memory
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_of_nan_or_infinity_stays_where_it_belongs(implementation, memory, value):
    x = images(integers, (1, 17, 8, 8), "float32", memory)
    _, grad_output, _ = by_torch("avg_pool2d", x, integers, {"kernel_size": 2})
    grad_output[0, 3, 1, 2] = value
    grad = avg_pool2d(implementation).backward(grad_output, x, 2)
    assert (~np.isfinite(grad)).sum() == 4
    assert not np.isfinite(grad[0, 3, 2:4, 4:6]).any()


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((1, 2, 3, 6, 5), {"kernel_size": 2}, "input must have 3 or 4 dimensions"),
        ((2, 0, 6, 5), {"kernel_size": 2}, "input may be empty in its batch alone"),
        ((2, 3, 0, 5), {"kernel_size": 2, "padding": 1}, "input may be empty in its batch alone"),
        ((0, 3, 6, 0), {"kernel_size": 2}, "input may be empty in its batch alone"),
        ((2, 3, 6, 5), {"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
        ((2, 3, 6, 5), {"kernel_size": (1, 2, 3)}, "kernel_size must be a whole number or a pair"),
        ((2, 3, 6, 5), {"kernel_size": 2**40, "ceil_mode": True}, "kernel_size must be at most"),
        ((2, 3, 6, 5), {"kernel_size": 2, "stride": 0}, "stride must be at least 1, got 0"),
        ((2, 3, 6, 5), {"kernel_size": 2, "padding": -1}, "padding must be at least 0, got -1"),
        ((2, 3, 6, 5), {"kernel_size": 3, "padding": 2}, "padding must be at most half of"),
        ((2, 3, 6, 5), {"kernel_size": 6}, "larger than the padded input, 5 along axis W"),
        ((2, 3, 5, 6), {"kernel_size": 6}, "larger than the padded input, 5 along axis H"),
        ((2, 3, 6, 5), {"kernel_size": 2, "divisor_override": 0}, "divisor_override must not be 0"),
    ],
)
def test_shapes_and_numbers_that_torch_refuses_are_value_errors(shape, arguments, message):
    assert_refused("avg_pool2d", ValueError, np.ones(shape, np.float32), arguments, message)


def test_a_plain_matrix_is_a_value_error():
    # torch's own is an IndexError there, of dimension -3.
    with pytest.raises(ValueError, match="input must have 3 or 4 dimensions"):
        avg_pool2d("loops").forward(np.ones((6, 5)), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 2.0}, "kernel_size must be a whole number, got 2.0"),
        ({"kernel_size": True}, "kernel_size must be a whole number, got True"),
        ({"kernel_size": 2, "stride": "2"}, "stride must be a whole number, got '2'"),
        ({"kernel_size": 2, "padding": None}, "padding must be a whole number, got None"),
        ({"kernel_size": 2, "ceil_mode": 1}, "ceil_mode must be True or False, got 1"),
        ({"kernel_size": 2, "count_include_pad": 0}, "count_include_pad must be True or False"),
        ({"kernel_size": 2, "divisor_override": 2.5}, "divisor_override must be a whole number"),
        ({"kernel_size": 2, "divisor_override": True}, "divisor_override must be a whole number"),
    ],
)
def test_arguments_of_another_kind_are_type_errors(arguments, message):
    assert_refused("avg_pool2d", TypeError, np.ones((2, 3, 6, 5), np.float32), arguments, message)


@pytest.mark.parametrize("implementation", by_hand("avg_pool2d"))
def test_a_kernel_beyond_all_bounds_takes_the_whole_image_in_ceil_mode(implementation):
    x = images(integers, (1, 9, 4, 4), "float32")
    operator = avg_pool2d(implementation)
    output = operator.forward(x, 2**30, ceil_mode=True)
    assert_equal(output, x.mean(axis=(2, 3), keepdims=True))
    grad = operator.backward(output, x, 2**30, ceil_mode=True)
    assert_equal(grad, np.broadcast_to(output / 16, x.shape).astype(np.float32))


def test_remembered_arguments_keep_true_and_one_apart():
    x = np.ones((1, 1, 4, 4), np.float32)
    ours = kernels.get("avg_pool2d", "loops")
    for kernel_size, wrong in ((1, True), (1, 1.0), ((1, 1), (True, 1))):
        ours.forward(x, kernel_size)
        for _ in range(2):
            with pytest.raises(TypeError, match="kernel_size must be a whole number"):
                ours.forward(x, wrong)
    with pytest.raises(TypeError, match="ceil_mode must be True or False, got 1"):
        ours.forward(x, 1, ceil_mode=1)
    assert ours.forward(x, [2, 2]).shape == ours.forward(x, (np.int64(2), 2)).shape == (1, 1, 2, 2)
