"""conv2d's gradients in every implementation against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F

from tests.conv2d_checks import (
    CASES,
    MARKS,
    NAMES,
    Case,
    by_torch,
    conv2d,
    drawn,
    each_claimed,
    each_implementation,
    each_long,
    float64,
)
from tests.kernel_checks import (
    about,
    assert_equal,
    assert_order,
    assert_within,
    each_dtype,
    each_memory,
    gradcheck,
    tensor,
)
from tests.kernel_inputs import integers, normal

pytestmark = MARKS


@each_dtype
@each_memory
@each_claimed
def test_gradients_of_integers_are_exact(implementation, case, memory, dtype):
    *given, grad_output = arrays = drawn(CASES[case], integers, dtype, memory)
    grads = conv2d(implementation).backward(grad_output, *given, **CASES[case].arguments)
    _, expected = by_torch(CASES[case], *arrays)
    for name, grad, wanted in zip(NAMES, grads, expected, strict=True):
        with about(f"gradient of {name}"):
            assert_equal(grad, wanted.numpy())
            assert_order(grad, wanted)


@each_dtype
@each_memory
@each_long
def test_gradients_of_random_data_are_within_the_bound(implementation, case, memory, dtype):
    *given, grad_output = arrays = drawn(CASES[case], normal, dtype, memory)
    grads = conv2d(implementation).backward(grad_output, *given, **CASES[case].arguments)
    _, exact = by_torch(CASES[case], *float64(arrays))
    _, scale = by_torch(CASES[case], *map(np.abs, float64(arrays)))
    for name, grad, wanted, allowed in zip(NAMES, grads, exact, scale, strict=True):
        with about(f"gradient of {name}"):
            assert_within(grad, wanted.numpy(), allowed.numpy())


@each_implementation
def test_gradients_are_those_of_finite_differences(implementation):
    *given, _ = drawn(Case((2, 2, 4, 3), (3, 2, 3, 3)), normal, "float64")
    assert gradcheck(conv2d(implementation), *given, padding=1)


@each_implementation
def test_a_bias_left_out_has_no_gradient(implementation):
    x, weight, _, grad_output = drawn(CASES["3x3"], integers, "float32")
    operator = conv2d(implementation)
    output = operator.forward(x, weight, padding=1)
    assert_equal(output, F.conv2d(tensor(x), tensor(weight), padding=1).numpy())
    _, _, grad_bias = operator.backward(grad_output, x, weight, padding=1)
    assert grad_bias is None


@pytest.mark.parametrize("wanted", NAMES)
@each_implementation
def test_only_the_gradients_that_are_needed_are_made(implementation, wanted):
    *given, grad_output = drawn(CASES["3x3"], integers, "float32")
    operator = conv2d(implementation)
    needs = tuple(name == wanted for name in NAMES)
    grads = operator.backward(grad_output, *given, padding=1, needs=needs)
    assert [grad is not None for grad in grads] == list(needs)
    everything = operator.backward(grad_output, *given, padding=1)
    assert_equal(grads[needs.index(True)], everything[needs.index(True)])
