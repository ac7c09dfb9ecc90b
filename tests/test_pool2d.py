"""What holds of all three pooling operators alike: rounding, memory, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from tests.kernel_checks import (
    NO_FLOATS,
    Guard,
    assert_equal,
    assert_order,
    assert_within,
    by_hand,
    each_dtype,
    each_memory,
    gradcheck,
    operator,
    tensor,
)
from tests.kernel_inputs import integers, laid_out, normal
from tests.pooling_cases import CASES, images, results
from tests.pooling_checks import assert_same_bits_for_all_threads, by_torch

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

NAMES = tuple(CASES)
AVERAGING = ("avg_pool2d", "adaptive_avg_pool2d")
SMALL = {
    "max_pool2d": {"kernel_size": 2},
    "avg_pool2d": {"kernel_size": 2},
    "adaptive_avg_pool2d": {"output_size": 3},
}
"""Arguments for an input of 6 x 6, which all make it 3 x 3."""

each_operator = pytest.mark.parametrize("name", NAMES)
each_implementation = pytest.mark.parametrize(
    ("name", "implementation"), [(name, key) for name in NAMES for key in kernels.names(name)]
)
each_average = pytest.mark.parametrize(
    ("name", "implementation", "case"),
    [
        (name, key, case)
        for name in AVERAGING
        for key in kernels.names(name)
        for case in CASES[name]
    ],
)


@each_memory
@each_dtype
@each_average
def test_averages_of_random_data_are_within_the_bound(name, implementation, memory, dtype, case):
    shape, arguments = CASES[name][case]
    x = images(normal, shape, dtype, memory)
    average = getattr(F, name)
    exact = tensor(x).double()
    truth, scale = (average(values, **arguments).numpy() for values in (exact, exact.abs()))
    output = operator(name, implementation).forward(x, **arguments)
    assert_within(output, truth, np.abs(scale))
    assert_order(output, average(tensor(x), **arguments))


@each_memory
@each_dtype
@each_average
def test_their_gradients_are_within_the_bound_too(name, implementation, memory, dtype, case):
    shape, arguments = CASES[name][case]
    x = images(normal, shape, dtype, memory)
    _, grad_output, expected = by_torch(name, x, normal, arguments)
    op = operator(name, implementation)
    grad = op.backward(laid_out(grad_output, memory), x, **arguments)
    given = tensor(x).double().requires_grad_()
    output = getattr(F, name)(given, **arguments)
    truth, scale = (
        torch.autograd.grad(output, given, torch.from_numpy(above), retain_graph=True)[0].numpy()
        for above in (grad_output.astype(np.float64), np.abs(grad_output).astype(np.float64))
    )
    assert_within(grad, truth, np.abs(scale))
    if name == "avg_pool2d" or output.shape[-2:] != (1, 1):  # there adaptive's is contiguous
        assert_order(grad, expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("max_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("avg_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("adaptive_avg_pool2d", {"output_size": 1}),
        ("adaptive_avg_pool2d", {"output_size": (3, 4)}),
    ],
)
@pytest.mark.parametrize("implementation", kernels.names("max_pool2d"))
def test_gradients_are_those_of_finite_differences(name, implementation, arguments):
    numbers = np.random.default_rng(2).permutation(120).reshape(2, 2, 5, 6) / 7
    assert gradcheck(operator(name, implementation), numbers, **arguments)


@each_implementation
def test_an_unbatched_image_gives_unbatched_results(name, implementation):
    x = images(integers, (3, 6, 6), "float32")
    arguments = {"output_size": (2, 3)} if name == "adaptive_avg_pool2d" else SMALL[name]
    expected, grad_output, expected_grad = by_torch(name, x, integers, arguments)
    op = operator(name, implementation)
    outputs, grads, indices = results(name, op, x, arguments, grad_output)
    for output in outputs:
        assert_equal(output, expected.numpy())
    for grad in grads:
        assert_equal(grad, expected_grad.numpy())
    assert all(where.shape == expected.shape for where in indices)


@each_implementation
def test_an_empty_batch_gives_an_empty_result(name, implementation):
    x = np.ones((0, 3, 6, 6), np.float32)
    outputs, grads, indices = results(name, operator(name, implementation), x, SMALL[name])
    for output in outputs:
        assert_equal(output, getattr(F, name)(tensor(x), **SMALL[name]).numpy())
    for grad in grads:
        assert_equal(grad, x)
    for where in indices:
        assert_equal(where, np.zeros((0, 3, 3, 3), np.int64))


@each_implementation
def test_arguments_may_be_read_only_repeated_in_memory_and_unaligned(name, implementation):
    plain = images(integers, (2, 1, 6, 6), "float32")
    packed = np.zeros(plain.shape, np.dtype([("pad", "u1"), ("value", "f4")]))["value"]
    packed[:] = plain
    packed.flags.writeable = False
    repeated = np.broadcast_to(plain, (2, 9, 6, 6))
    op = operator(name, implementation)
    for given in (packed, repeated):
        before = given.copy()
        for found, wanted in zip(
            results(name, op, given, SMALL[name]),
            results(name, op, np.array(given), SMALL[name]),
            strict=True,
        ):
            for one, other in zip(found, wanted, strict=True):
                assert_equal(one, other)
        assert_equal(given, before)


MANY_TASKS = {
    "max_pool2d": ["3x3 s2 p1", "5x5 s1", "ceil, padded", "dilated", "stride > kernel"],
    "avg_pool2d": ["3x3 s2 p1", "5x5 s1", "ceil, padded", "stride > kernel"],
    "adaptive_avg_pool2d": ["all", "overlapping", "larger"],
}
"""Cases that are cut into many tasks, once these are small."""


@pytest.mark.parametrize(
    ("name", "implementation", "case"),
    [(name, key, case) for name in NAMES for key in by_hand(name) for case in MANY_TASKS[name]],
)
@each_memory
def test_results_are_written_whole_and_nothing_beside_them(
    name, implementation, memory, case, monkeypatch
):
    monkeypatch.setattr("kernels.pooling.GRAIN", 4)
    shape, arguments = CASES[name][case]
    x = images(normal, shape, "float32", memory)
    guard = Guard(monkeypatch)
    results(name, operator(name, implementation), x, arguments)
    guard.check()


@each_operator
def test_every_number_of_threads_gives_the_same_bits(name):
    assert_same_bits_for_all_threads(name, [CASES[name][case] for case in MANY_TASKS[name]])


@each_operator
@pytest.mark.parametrize("kind", NO_FLOATS)
def test_what_is_no_array_of_floats_is_a_type_error(name, kind):
    spoil, came = NO_FLOATS[kind]
    with pytest.raises(TypeError, match=f"input must be .*, got {came}"):
        operator(name, "loops").forward(spoil(np.ones((1, 2, 6, 6), np.float32)), **SMALL[name])


@each_operator
def test_a_gradient_of_another_dtype_or_shape_is_refused(name):
    x = np.ones((2, 3, 6, 6), np.float32)
    op = operator(name, "loops")
    with pytest.raises(TypeError, match="grad_output must be float32 as the input is"):
        op.backward(np.ones((2, 3, 3, 3)), x, **SMALL[name])
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3, 3, 3\)"):
        op.backward(x, x, **SMALL[name])
