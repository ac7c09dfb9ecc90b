"""What is particular to max_pool2d: indices, ties, NaN, dilation; the rest is in test_pool2d.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.pytorch import torch_threads
from tests.kernel_checks import (
    assert_equal,
    assert_order,
    assert_within,
    by_hand,
    each_dtype,
    each_memory,
    tensor,
)
from tests.kernel_inputs import integers, laid_out, normal
from tests.pooling_cases import MAX as CASES
from tests.pooling_cases import images
from tests.pooling_checks import assert_refused, by_torch

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

IMPLEMENTATIONS = kernels.names("max_pool2d")

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
each_case = pytest.mark.parametrize("case", CASES)


def max_pool2d(implementation, threads=None):
    return kernels.get("max_pool2d", implementation, threads)


@each_implementation
@each_memory
@each_dtype
@each_case
def test_values_and_indices_are_torchs(implementation, memory, dtype, case):
    shape, arguments = CASES[case]
    x = images(integers, shape, dtype, memory)
    expected, where = F.max_pool2d(tensor(x), **arguments, return_indices=True)
    operator = max_pool2d(implementation)
    alone = operator.forward(x, **arguments)
    values, indices = operator.forward(x, **arguments, return_indices=True)
    for ours, theirs in ((alone, expected), (values, expected), (indices, where)):
        assert_equal(ours, theirs.numpy())
        assert_order(ours, theirs)


@each_implementation
@each_memory
@each_dtype
@pytest.mark.parametrize("case", [case for case in CASES if case != "empty windows"])
def test_gradients_of_integers_are_exact(implementation, memory, dtype, case):
    shape, arguments = CASES[case]
    x = images(integers, shape, dtype, memory)
    _, grad_output, expected = by_torch("max_pool2d", x, integers, arguments)
    operator = max_pool2d(implementation)
    _, indices = operator.forward(x, **arguments, return_indices=True)
    for given in (None, indices):
        grad = operator.backward(laid_out(grad_output, memory), x, **arguments, indices=given)
        assert_equal(grad, expected.numpy())
        assert_order(grad, expected)


@each_implementation
@each_memory
def test_windows_that_dilation_left_empty_have_no_gradient(implementation, memory):
    # For them torch's own indices lie outside of the input, where its backward would write.
    shape, arguments = CASES["empty windows"]
    x = images(integers, shape, "float32", memory)
    operator = max_pool2d(implementation)
    output, indices = operator.forward(x, **arguments, return_indices=True)
    assert np.isneginf(output).all()
    grad = operator.backward(np.ones_like(output), x, **arguments, indices=indices)
    assert_equal(grad, np.zeros(shape, np.float32))


@each_implementation
@pytest.mark.parametrize("case", ["3x3 s1, more than a vector", "5x5 s1"])
def test_gradients_of_random_data_are_within_the_bound(implementation, case):
    shape, arguments = CASES[case]
    x = images(normal, shape, "float32", "channels_last")
    _, grad_output, _ = by_torch("max_pool2d", x, normal, arguments)
    exact = x.astype(np.float64)
    grad = max_pool2d(implementation).backward(grad_output, x, **arguments)
    truth, scale = (
        max_pool2d("loops").backward(g.astype(np.float64), exact, **arguments)
        for g in (grad_output, np.abs(grad_output))
    )
    assert_within(grad, truth, scale)


@each_implementation
@each_memory
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_travel_as_in_torch(implementation, memory, value):
    x = images(integers, (2, 17, 7, 6), "float32")
    x[0, :, 2:4, 1:5] = value
    x[1, 3] = value
    x[1, 16, 0, 0] = value
    x = laid_out(x, memory)
    arguments = {"kernel_size": 3, "stride": 2, "padding": 1}
    expected, where = F.max_pool2d(tensor(x), **arguments, return_indices=True)
    operator = max_pool2d(implementation)
    output, indices = operator.forward(x, **arguments, return_indices=True)
    assert_equal(output, expected.numpy())
    assert_equal(indices, where.numpy())
    assert_equal(operator.forward(x, **arguments), expected.numpy())


@each_implementation
@each_memory
def test_the_first_of_equals_gets_the_gradient(implementation, memory):
    x = laid_out(np.zeros((1, 9, 4, 4), np.float32), memory)
    operator = max_pool2d(implementation)
    output, indices = operator.forward(x, 2, return_indices=True)
    assert_equal(indices[0, 8], np.array([[0, 2], [8, 10]]))
    grad = operator.backward(output + 1, x, 2)
    assert_equal(grad, np.tile(np.float32([[1, 0], [0, 0]]), (1, 9, 2, 2)))


@each_implementation
def test_a_gradient_of_nan_or_infinity_stays_where_it_belongs(implementation):
    x = images(normal, (1, 16, 4, 4), "float32", "channels_last")
    operator = max_pool2d(implementation)
    output, indices = operator.forward(x, 2, return_indices=True)
    grad_output = np.full_like(output, np.nan)
    grad = operator.backward(grad_output, x, 2, indices=indices)
    assert np.isnan(grad).sum() == output.size
    assert (grad[~np.isnan(grad)] == 0).all()


@each_implementation
def test_indices_spare_the_search(implementation):
    x = images(normal, (2, 9, 6, 6), "float32", "channels_last")
    operator = max_pool2d(implementation)
    output, indices = operator.forward(x, 3, 1, return_indices=True)
    indices.flags.writeable = False
    with_indices = operator.backward(output, x, 3, 1, indices=indices)
    elsewhere = operator.backward(output, np.zeros_like(x), 3, 1, indices=indices)
    assert_equal(elsewhere, with_indices)


@each_implementation
@each_memory
@pytest.mark.parametrize("channels", [3, 9])
@pytest.mark.parametrize("stray", [-1, 49, 2**62, -(2**63)])
def test_indices_outside_of_the_input_are_refused(implementation, memory, channels, stray):
    x = images(normal, (2, channels, 7, 7), "float32", memory)
    operator = max_pool2d(implementation)
    output, indices = operator.forward(x, 3, 2, return_indices=True)
    indices[1, 2, 0, 1] = stray
    with pytest.raises(ValueError, match="indices must point into their windows"):
        operator.backward(output, x, 3, 2, indices=indices)


@pytest.mark.parametrize("implementation", by_hand("max_pool2d"))
@each_memory
@pytest.mark.parametrize("channels", [3, 9])
@pytest.mark.parametrize("stray", [0, 1, 3, 7, 8, 48])
def test_indices_in_other_windows_or_beside_dilated_ones_are_refused(
    implementation, memory, channels, stray
):
    x = images(normal, (2, channels, 7, 7), "float32", memory)
    operator = max_pool2d(implementation)
    output, indices = operator.forward(x, 2, 1, dilation=2, return_indices=True)
    indices[1, 2, 0, 2] = stray  # its window holds 2, 4, 16 and 18
    with pytest.raises(ValueError, match=r"indices must point into their windows.* got 1 "):
        operator.backward(output, x, 2, 1, dilation=2, indices=indices)


def test_indices_of_another_kind_or_shape_are_refused():
    x = images(normal, (2, 3, 4, 4), "float32")
    operator = max_pool2d("loops")
    output, indices = operator.forward(x, 2, return_indices=True)
    with pytest.raises(TypeError, match="indices must be an int64 array, got int32"):
        operator.backward(output, x, 2, indices=indices.astype(np.int32))
    with pytest.raises(TypeError, match="indices must be an int64 array, got list"):
        operator.backward(output, x, 2, indices=indices.tolist())
    with pytest.raises(ValueError, match="indices must have shape"):
        operator.backward(output, x, 2, indices=indices[:1])


REFUSED = [
    ((6, 5), {"kernel_size": 2}, "input must have 3 or 4 dimensions"),
    ((1, 2, 3, 6, 5), {"kernel_size": 2}, "input must have 3 or 4 dimensions"),
    ((2, 0, 6, 5), {"kernel_size": 2}, "input may be empty in its batch alone"),
    ((2, 3, 0, 5), {"kernel_size": 2, "padding": 1}, "input may be empty in its batch alone"),
    ((0, 3, 6, 0), {"kernel_size": 2}, "input may be empty in its batch alone"),
    ((2, 3, 6, 5), {"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
    ((2, 3, 6, 5), {"kernel_size": (1, 2, 3)}, "kernel_size must be a whole number or a pair"),
    ((2, 3, 6, 5), {"kernel_size": 2**40, "ceil_mode": True}, "kernel_size must be at most"),
    ((2, 3, 6, 5), {"kernel_size": 1, "stride": 2**40}, "stride must be at most"),
    ((2, 3, 6, 5), {"kernel_size": 1, "dilation": 2**40}, "dilation must be at most"),
    ((2, 3, 6, 5), {"kernel_size": 2, "stride": 0}, "stride must be at least 1, got 0"),
    ((2, 3, 6, 5), {"kernel_size": 2, "stride": (1, -1)}, "stride must be at least 1, got -1"),
    ((2, 3, 6, 5), {"kernel_size": 2, "padding": -1}, "padding must be at least 0, got -1"),
    ((2, 3, 6, 5), {"kernel_size": 3, "padding": 2}, "padding must be at most half of kernel_size"),
    (
        (2, 3, 6, 5),
        {"kernel_size": 2, "padding": 2, "dilation": 3},
        "padding must be at most half of kernel_size",
    ),
    ((2, 3, 6, 5), {"kernel_size": 2, "dilation": 0}, "dilation must be at least 1, got 0"),
    ((2, 3, 6, 5), {"kernel_size": 6}, r"kernel_size: \(6, 6\) .* larger than the padded input, 5"),
    ((2, 3, 6, 5), {"kernel_size": 3, "dilation": 3}, "larger than the padded input, 6 along"),
]


@pytest.mark.parametrize(("shape", "arguments", "message"), REFUSED)
def test_shapes_and_numbers_that_torch_refuses_are_value_errors(shape, arguments, message):
    assert_refused("max_pool2d", ValueError, np.ones(shape, np.float32), arguments, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 2.0}, "kernel_size must be a whole number, got 2.0"),
        ({"kernel_size": True}, "kernel_size must be a whole number, got True"),
        ({"kernel_size": None}, "kernel_size must be a whole number, got None"),
        ({"kernel_size": 2, "stride": "2"}, "stride must be a whole number, got '2'"),
        ({"kernel_size": 2, "padding": None}, "padding must be a whole number, got None"),
        ({"kernel_size": 2, "dilation": 1.5}, "dilation must be a whole number, got 1.5"),
        ({"kernel_size": 2, "ceil_mode": 1}, "ceil_mode must be True or False, got 1"),
    ],
)
def test_arguments_of_another_kind_are_type_errors(arguments, message):
    assert_refused("max_pool2d", TypeError, np.ones((2, 3, 6, 5), np.float32), arguments, message)


def test_return_indices_is_true_or_false():
    with pytest.raises(TypeError, match="return_indices must be True or False, got 'yes'"):
        max_pool2d("loops").forward(np.ones((3, 4, 4)), 2, return_indices="yes")


@each_implementation
def test_a_kernel_beyond_all_bounds_takes_the_whole_image_in_ceil_mode(implementation):
    x = images(normal, (1, 9, 4, 5), "float32")
    output = max_pool2d(implementation).forward(x, 2**30, ceil_mode=True)
    assert_equal(output, x.max(axis=(2, 3), keepdims=True))
    grad = max_pool2d(implementation).backward(output, x, 2**30, ceil_mode=True)
    assert_equal(grad, np.where(x == output, x, 0).astype(np.float32))


@pytest.mark.parametrize("implementation", by_hand("max_pool2d"))
def test_padding_beyond_all_bounds_costs_no_time(implementation):
    x = images(normal, (1, 9, 4, 5), "float32")
    arguments = {"kernel_size": 2**31 - 1, "padding": 2**30 - 1, "ceil_mode": True}
    output = max_pool2d(implementation).forward(x, **arguments)
    assert_equal(output, x.max(axis=(2, 3), keepdims=True))
    grad = max_pool2d(implementation).backward(output, x, **arguments)
    assert_equal(grad, np.where(x == output, x, 0).astype(np.float32))


@each_implementation
def test_torchs_number_of_threads_is_restored(implementation):
    with torch_threads(2):
        max_pool2d(implementation, 1).forward(np.ones((1, 2, 4, 4), np.float32), 2)
        assert torch.get_num_threads() == 2
