"""adaptive_avg_pool2d in every implementation against torch: values, gradients, refusals."""

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

IMPLEMENTATIONS = kernels.names("adaptive_avg_pool2d")
OURS = [name for name in IMPLEMENTATIONS if name != "torch"]

CASES = {
    "all": ((2, 35, 7, 7), 1),
    "all, of powers of two": ((2, 9, 4, 8), 1),
    "dividing": ((2, 17, 8, 12), (4, 6)),
    "overlapping": ((2, 17, 7, 9), (3, 4)),
    "as it is": ((2, 9, 5, 6), (None, None)),
    "rows alone": ((1, 3, 7, 6), (4, None)),
    "columns alone": ((1, 8, 5, 6), [None, 3]),
    "larger": ((1, 9, 4, 3), (7, 8)),
    "one pixel": ((2, 16, 1, 1), 3),
}

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
each_memory = pytest.mark.parametrize("memory", FORMATS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_case = pytest.mark.parametrize("case", CASES)


def adaptive(implementation, threads=None):
    return kernels.get("adaptive_avg_pool2d", implementation, threads)


@each_implementation
@each_memory
@each_dtype
@pytest.mark.parametrize("case", ["all, of powers of two", "dividing", "as it is", "one pixel"])
def test_integers_are_exact(implementation, memory, dtype, case):
    shape, size = CASES[case]
    x = images(integers, shape, dtype, memory)
    arguments = {"output_size": size}
    expected, grad_output, expected_grad = by_torch("adaptive_avg_pool2d", x, integers, arguments)
    operator = adaptive(implementation)
    output = operator.forward(x, size)
    assert_equal(output, expected.numpy())
    assert_order(output, expected)
    grad = operator.backward(laid_out(grad_output, memory), x, size)
    assert_equal(grad, expected_grad.numpy())


@each_implementation
@each_memory
@each_dtype
@each_case
def test_random_data_is_within_the_bound(implementation, memory, dtype, case):
    shape, size = CASES[case]
    x = images(normal, shape, dtype, memory)
    exact = tensor(x).double()
    expected = F.adaptive_avg_pool2d(tensor(x), size)
    output = adaptive(implementation).forward(x, size)
    truth = F.adaptive_avg_pool2d(exact, size).numpy()
    assert_within(output, truth, F.adaptive_avg_pool2d(exact.abs(), size).numpy())
    assert_order(output, expected)


@each_implementation
@each_memory
@each_dtype
@each_case
def test_gradients_of_random_data_are_within_the_bound(implementation, memory, dtype, case):
    shape, size = CASES[case]
    x = images(normal, shape, dtype, memory)
    _, grad_output, _ = by_torch("adaptive_avg_pool2d", x, normal, {"output_size": size})
    grad = adaptive(implementation).backward(laid_out(grad_output, memory), x, size)
    given = tensor(x).double().requires_grad_()
    output = F.adaptive_avg_pool2d(given, size)
    truth, scale = (
        torch.autograd.grad(output, given, torch.from_numpy(g), retain_graph=True)[0].numpy()
        for g in (grad_output.astype(np.float64), np.abs(grad_output).astype(np.float64))
    )
    assert_within(grad, truth, scale)


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
@pytest.mark.parametrize("size", [1, (3, 4)])
def test_gradients_are_those_of_finite_differences(implementation, size):
    assert gradcheck("adaptive_avg_pool2d", implementation, (2, 2, 5, 6), output_size=size)


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
def test_an_unbatched_image_gives_an_unbatched_result(implementation):
    x = images(integers, (3, 4, 6), "float32")
    arguments = {"output_size": (2, 3)}
    expected, grad_output, expected_grad = by_torch("adaptive_avg_pool2d", x, integers, arguments)
    operator = adaptive(implementation)
    assert_equal(operator.forward(x, (2, 3)), expected.numpy())
    assert_equal(operator.backward(grad_output, x, (2, 3)), expected_grad.numpy())


@each_implementation
@pytest.mark.parametrize("size", [1, (2, 3)])
@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (2, 0, 6, 6), (0, 6, 6)])
def test_nothing_in_gives_nothing_out(implementation, shape, size):
    x = np.ones(shape, np.float32)
    output = adaptive(implementation).forward(x, size)
    assert_equal(output, F.adaptive_avg_pool2d(tensor(x), size).numpy())


@each_implementation
def test_an_empty_batch_has_an_empty_gradient(implementation):
    x = np.ones((0, 3, 6, 6), np.float32)
    operator = adaptive(implementation)
    assert_equal(operator.backward(operator.forward(x, 2), x, 2), x)


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


@each_implementation
def test_arguments_may_be_read_only_repeated_in_memory_and_unaligned(implementation):
    plain = images(integers, (2, 1, 6, 6), "float32")
    packed = np.zeros(plain.shape, np.dtype([("pad", "u1"), ("value", "f4")]))["value"]
    packed[:] = plain
    repeated = np.broadcast_to(plain, (2, 9, 6, 6))
    operator = adaptive(implementation)
    for given in (packed, repeated):
        array, before = np.array(given), given.copy()
        output = operator.forward(array, 3)
        assert_equal(operator.forward(given, 3), output)
        assert_equal(operator.backward(output, given, 3), operator.backward(output, array, 3))
        assert_equal(given, before)


@pytest.mark.parametrize("implementation", OURS)
@each_memory
@pytest.mark.parametrize("case", ["all", "overlapping", "larger"])
def test_results_are_written_whole_and_nothing_beside_them(
    implementation, memory, case, monkeypatch
):
    monkeypatch.setattr("kernels.pooling.GRAIN", 4)
    shape, size = CASES[case]
    x = images(normal, shape, "float32", memory)
    guard = Guard(monkeypatch)
    operator = adaptive(implementation)
    operator.backward(operator.forward(x, size), x, size)
    guard.check()


def test_every_number_of_threads_gives_the_same_bits():
    calls = [
        (CASES[case][0], {"output_size": CASES[case][1]})
        for case in ("all", "overlapping", "larger")
    ]
    assert_same_bits_for_all_threads("adaptive_avg_pool2d", calls)


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


@pytest.mark.parametrize("kind", NO_FLOATS)
def test_what_is_no_array_of_floats_is_a_type_error(kind):
    spoil, came = NO_FLOATS[kind]
    with pytest.raises(TypeError, match=f"input must be .*, got {came}"):
        adaptive("loops").forward(spoil(np.ones((1, 2, 4, 4), np.float32)), 2)


def test_a_gradient_of_another_dtype_or_shape_is_refused():
    x = np.ones((2, 3, 6, 6), np.float32)
    operator = adaptive("loops")
    with pytest.raises(TypeError, match="grad_output must be float32 as the input is"):
        operator.backward(np.ones((2, 3, 3, 3)), x, 3)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3, 3, 3\)"):
        operator.backward(x, x, 3)
