"""What torch's conv2d refuses is refused, with what was wanted and what came."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F

from tests.conv2d_checks import CASES, MARKS, NAMES, conv2d, drawn
from tests.kernel_checks import NO_FLOATS, tensor
from tests.kernel_inputs import integers

pytestmark = MARKS


X, W = (2, 4, 6, 5), (3, 4, 3, 3)


REFUSED = [
    ((4, 6), W, {}, r"input must have 3 or 4 dimensions, got shape \(4, 6\)"),
    ((1, *X), W, {}, "input must have 3 or 4 dimensions"),
    (X, W[1:], {}, "weight must have 4 dimensions"),
    ((2, 5, 6, 5), W, {}, r"input must have 4 channels, .* got shape \(2, 5, 6, 5\)"),
    ((5, 6, 5), W, {}, "input must have 4 channels"),
    ((2, 4, 0, 5), W, {"padding": 2}, "input must have a height and a width"),
    (X, (0, 4, 3, 3), {}, "weight must have filters and a kernel"),
    (X, (3, 4, 0, 3), {}, "weight must have filters and a kernel"),
    (X, (3, 2, 3, 3), {"groups": 2}, "groups must divide weight's 3 filters, got 2"),
    (X, (2, 1, 3, 3), {"groups": 4}, "groups must divide weight's 2 filters, got 4"),
    (X, W, {"groups": 2}, "input must have 8 channels"),
    (X, W, {"groups": 0}, "groups must be at least 1, got 0"),
    (X, W, {"groups": -1}, "groups must be at least 1, got -1"),
    ((2, 4, 2, 5), W, {}, "3 x 3 kernel .* is larger than the padded input, 2 x 5"),
    (X, W, {"dilation": 3}, "7 x 7 kernel .* is larger than the padded input, 6 x 5"),
    (X, W, {"padding": -1}, "padding must be at least 0, got -1"),
    (X, W, {"padding": (1, -1)}, "padding must be at least 0, got -1"),
    (X, W, {"padding": (1, 1, 1)}, r"padding must be .* pair of them, got \(1, 1, 1\)"),
    (X, W, {"padding": "SAME"}, "padding must be .*, got 'SAME'"),
    (X, W, {"padding": "same", "stride": 2}, 'padding "same" needs stride 1'),
    (X, W, {"stride": 0}, "stride must be at least 1, got 0"),
    (X, W, {"stride": (1, -2)}, "stride must be at least 1, got -2"),
    (X, W, {"stride": ()}, "stride must be a whole number or a pair"),
    (X, W, {"stride": 2**63}, "stride must be at most"),
    (X, W, {"dilation": 0}, "dilation must be at least 1, got 0"),
]
"""Shapes of images and weight, arguments, what the ValueError says."""


@pytest.mark.parametrize(("images", "weight", "arguments", "message"), REFUSED)
def test_shapes_and_numbers_that_torch_refuses_are_value_errors(images, weight, arguments, message):
    given = [np.ones(shape, np.float32) for shape in (images, weight)]
    with pytest.raises((RuntimeError, ValueError)):
        F.conv2d(*map(tensor, given), **arguments)
    with pytest.raises(ValueError, match=message):
        conv2d("loops").forward(*given, **arguments)
    with pytest.raises(ValueError, match=message):
        conv2d("loops").backward(given[0], *given, **arguments)


NOT_WHOLE = [
    ({"stride": 1.0}, "stride must be a whole number, got 1.0"),
    ({"stride": True}, "stride must be a whole number, got True"),
    ({"stride": None}, "stride must be a whole number, got None"),
    ({"stride": "2"}, "stride must be a whole number, got '2'"),
    ({"stride": np.array([1, 1])}, "stride must be a whole number"),
    ({"padding": (1.0, 1)}, "padding must be a whole number, got 1.0"),
    ({"padding": None}, "padding must be a whole number, got None"),
    ({"padding": np.array([1, 1])}, r"padding must be a whole number, got array\(\[1, 1\]\)"),
    ({"dilation": 1.5}, "dilation must be a whole number, got 1.5"),
    ({"groups": 1.0}, "groups must be a whole number, got 1.0"),
    ({"groups": True}, "groups must be a whole number, got True"),
]
"""Arguments, what the TypeError says."""


@pytest.mark.parametrize(("arguments", "message"), NOT_WHOLE)
def test_numbers_that_are_not_whole_are_type_errors(arguments, message):
    given = [np.ones(shape, np.float32) for shape in (X, W)]
    with pytest.raises(TypeError):
        F.conv2d(*map(tensor, given), **arguments)
    with pytest.raises(TypeError, match=message):
        conv2d("loops").forward(*given, **arguments)


def test_relu_is_true_or_false():
    given = [np.ones(shape, np.float32) for shape in (X, W)]
    with pytest.raises(TypeError, match="relu must be True or False, got 'no'"):
        conv2d("loops").forward(*given, relu="no")


@pytest.mark.parametrize("which", NAMES)
@pytest.mark.parametrize("kind", NO_FLOATS)
def test_what_is_no_array_of_floats_is_a_type_error(which, kind):
    spoil, came = NO_FLOATS[kind]
    given = dict(zip(NAMES, drawn(CASES["3x3"], integers, "float32"), strict=False))
    given[which] = spoil(given[which])
    with pytest.raises(TypeError, match=f"{which} must be .*, got {came}"):
        conv2d("loops").forward(**given)


def test_two_dtypes_are_a_type_error():
    x, weight, bias, grad_output = drawn(CASES["3x3"], integers, "float32")
    operator = conv2d("loops")
    with pytest.raises(TypeError, match="weight must be float32 as the input is, got float64"):
        operator.forward(x, weight.astype("f8"), bias)
    with pytest.raises(TypeError, match="bias must be float32 as the input is, got float64"):
        operator.forward(x, weight, bias.astype("f8"))
    with pytest.raises(TypeError, match="grad_output must be float32 as the input is"):
        operator.backward(grad_output.astype("f8"), x, weight, bias, padding=1)


@pytest.mark.parametrize("shape", [(3,), (1,), (5,), (4, 1), ()])
def test_a_bias_of_another_shape_than_the_filters_is_a_value_error(shape):
    x, weight, _, _ = drawn(CASES["3x3"], integers, "float32")
    with pytest.raises(ValueError, match="bias must have"):
        conv2d("loops").forward(x, weight, np.ones(shape, np.float32))


@pytest.mark.parametrize("shape", [(2, 4, 6, 4), (2, 3, 6, 5), (1, 4, 6, 5), (4, 6, 5), (240,)])
def test_a_gradient_of_another_shape_than_the_output_is_a_value_error(shape):
    *given, _ = drawn(CASES["3x3"], integers, "float32")
    with pytest.raises(ValueError, match="grad_output must have"):
        conv2d("loops").backward(np.ones(shape, np.float32), *given, padding=1)
