"""avg_pool2d in every implementation against torch: values, gradients, memory, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from tests.kernel_checks import (
    DTYPES,
    FORMATS,
    Guard,
    assert_equal,
    assert_order,
    assert_within,
    integers,
    laid_out,
    normal,
    tensor,
)
from tests.pooling_checks import (
    NO_FLOATS,
    assert_refused,
    assert_same_bits_for_all_threads,
    by_torch,
    gradcheck,
    images,
)

IMPLEMENTATIONS = kernels.names("avg_pool2d")
OURS = [name for name in IMPLEMENTATIONS if name != "torch"]

CASES = {
    "2x2": ((2, 3, 6, 5), {"kernel_size": 2}),
    "3x3 s2 p1": ((2, 17, 9, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "3x3 s2 p1, padding left out": (
        (2, 17, 9, 8),
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    ),
    "5x5 s1": ((2, 35, 7, 6), {"kernel_size": 5, "stride": 1, "padding": 2}),
    "1x1": ((1, 3, 4, 5), {"kernel_size": 1}),
    "kernel = image": ((2, 9, 4, 5), {"kernel_size": (4, 5)}),
    "stride > kernel": ((2, 16, 9, 8), {"kernel_size": 2, "stride": (3, 4)}),
    "ceil": ((2, 11, 8, 6), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil, padded": (
        (2, 8, 7, 9),
        {"kernel_size": (2, 3), "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "ceil, padding left out": (
        (1, 8, 6, 6),
        {
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
        },
    ),
    "ceil, last window left out": (
        (1, 8, 5, 5),
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "ceil, kernel > image": ((1, 8, 4, 5), {"kernel_size": 6, "stride": 6, "ceil_mode": True}),
    "divisor 4": ((2, 9, 7, 8), {"kernel_size": 3, "stride": 1, "divisor_override": 4}),
    "divisor -2": ((2, 3, 6, 5), {"kernel_size": (3, 2), "padding": 1, "divisor_override": -2}),
}
EXACT = ["2x2", "1x1", "divisor 4", "divisor -2"]
"""Divided by powers of two."""

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
each_memory = pytest.mark.parametrize("memory", FORMATS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_case = pytest.mark.parametrize("case", CASES)


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
@each_dtype
@each_case
def test_random_data_is_within_the_bound(implementation, memory, dtype, case):
    shape, arguments = CASES[case]
    x = images(normal, shape, dtype, memory)
    exact = x.astype(np.float64)
    truth, _, _ = by_torch("avg_pool2d", exact, normal, arguments)
    scale, _, _ = by_torch("avg_pool2d", np.abs(exact), normal, arguments)
    output = avg_pool2d(implementation).forward(x, **arguments)
    assert_within(output, truth.numpy(), np.abs(scale.numpy()))


@each_implementation
@each_memory
@each_dtype
@each_case
def test_gradients_of_random_data_are_within_the_bound(implementation, memory, dtype, case):
    shape, arguments = CASES[case]
    x = images(normal, shape, dtype, memory)
    _, grad_output, expected = by_torch("avg_pool2d", x, normal, arguments)
    grad = avg_pool2d(implementation).backward(laid_out(grad_output, memory), x, **arguments)
    given = tensor(x).double().requires_grad_()
    output = F.avg_pool2d(given, **arguments)
    truth, scale = (
        torch.autograd.grad(output, given, torch.from_numpy(g), retain_graph=True)[0].numpy()
        for g in (grad_output.astype(np.float64), np.abs(grad_output).astype(np.float64))
    )
    assert_within(grad, truth, np.abs(scale))
    assert_order(grad, expected)


@each_implementation
def test_gradients_are_those_of_finite_differences(implementation):
    arguments = {"kernel_size": 3, "stride": 2, "padding": 1}
    assert gradcheck("avg_pool2d", implementation, (2, 2, 5, 4), **arguments)


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


@each_implementation
def test_an_unbatched_image_gives_an_unbatched_result(implementation):
    x = images(integers, (3, 7, 6), "float32")
    expected, grad_output, expected_grad = by_torch("avg_pool2d", x, integers, {"kernel_size": 2})
    operator = avg_pool2d(implementation)
    assert_equal(operator.forward(x, 2), expected.numpy())
    assert_equal(operator.backward(grad_output, x, 2), expected_grad.numpy())


@each_implementation
def test_an_empty_batch_gives_an_empty_result(implementation):
    x = np.ones((0, 3, 6, 6), np.float32)
    operator = avg_pool2d(implementation)
    output = operator.forward(x, 3)
    assert_equal(output, F.avg_pool2d(tensor(x), 3).numpy())
    assert_equal(operator.backward(output, x, 3), x)


@each_implementation
def test_arguments_may_be_read_only_repeated_in_memory_and_unaligned(implementation):
    plain = images(integers, (2, 1, 6, 6), "float32")
    packed = np.zeros(plain.shape, np.dtype([("pad", "u1"), ("value", "f4")]))["value"]
    packed[:] = plain
    repeated = np.broadcast_to(plain, (2, 9, 6, 6))
    operator = avg_pool2d(implementation)
    for given in (packed, repeated):
        array, before = np.array(given), given.copy()
        output = operator.forward(array, 2)
        assert_equal(operator.forward(given, 2), output)
        assert_equal(operator.backward(output, given, 2), operator.backward(output, array, 2))
        assert_equal(given, before)


@pytest.mark.parametrize("implementation", OURS)
@each_memory
@pytest.mark.parametrize("case", ["3x3 s2 p1", "ceil, padded", "stride > kernel"])
def test_results_are_written_whole_and_nothing_beside_them(
    implementation, memory, case, monkeypatch
):
    monkeypatch.setattr("kernels.pooling.GRAIN", 4)
    shape, arguments = CASES[case]
    x = images(integers, shape, "float32", memory)
    guard = Guard(monkeypatch)
    operator = avg_pool2d(implementation)
    output = operator.forward(x, **arguments)
    operator.backward(output, x, **arguments)
    guard.check()


def test_every_number_of_threads_gives_the_same_bits():
    calls = [CASES[case] for case in ("3x3 s2 p1", "5x5 s1", "ceil, padded", "stride > kernel")]
    assert_same_bits_for_all_threads("avg_pool2d", calls)


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


@pytest.mark.parametrize("kind", NO_FLOATS)
def test_what_is_no_array_of_floats_is_a_type_error(kind):
    spoil, came = NO_FLOATS[kind]
    with pytest.raises(TypeError, match=f"input must be .*, got {came}"):
        avg_pool2d("loops").forward(spoil(np.ones((1, 2, 4, 4), np.float32)), 2)


def test_a_gradient_of_another_dtype_or_shape_is_refused():
    x = np.ones((2, 3, 6, 6), np.float32)
    operator = avg_pool2d("loops")
    with pytest.raises(TypeError, match="grad_output must be float32 as the input is"):
        operator.backward(np.ones((2, 3, 3, 3)), x, 2)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3, 3, 3\)"):
        operator.backward(x, x, 2)


@pytest.mark.parametrize("implementation", OURS)
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
