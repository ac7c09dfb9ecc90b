"""conv2d in every implementation against torch: values, shapes, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F

from tests.conv2d_checks import (
    CASES,
    CLAIMED,
    MARKS,
    PAIRS,
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
    assert_equal,
    assert_order,
    assert_within,
    each_dtype,
    each_memory,
    tensor,
)
from tests.kernel_inputs import FORMATS, integers, laid_out, normal

pytestmark = MARKS


@each_dtype
@each_memory
@each_claimed
def test_integers_are_exact(implementation, case, memory, dtype):
    *given, _ = arrays = drawn(CASES[case], integers, dtype, memory)
    output = conv2d(implementation).forward(*given, **CASES[case].arguments)
    expected, _ = by_torch(CASES[case], *arrays)
    assert_equal(output, expected.numpy())
    assert_order(output, expected)


@each_dtype
@each_memory
@each_long
def test_random_data_is_within_the_bound(implementation, case, memory, dtype):
    *given, _ = arrays = drawn(CASES[case], normal, dtype, memory)
    output = conv2d(implementation).forward(*given, **CASES[case].arguments)
    exact, _ = by_torch(CASES[case], *float64(arrays))
    scale, _ = by_torch(CASES[case], *map(np.abs, float64(arrays)))
    assert_within(output, exact.numpy(), scale.numpy())


@pytest.mark.parametrize(
    ("implementation", "case"), [pair for pair in PAIRS if pair not in CLAIMED]
)
def test_a_call_that_is_not_claimed_is_refused_by_name(implementation, case):
    *given, grad_output = drawn(CASES[case], integers, "float32")
    with pytest.raises(NotImplementedError, match=implementation):
        conv2d(implementation).forward(*given, **CASES[case].arguments)
    with pytest.raises(NotImplementedError, match=implementation):
        conv2d(implementation).backward(grad_output, *given, **CASES[case].arguments)


@each_dtype
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("other", FORMATS)
@each_memory
@each_implementation
def test_channels_last_input_or_weight_gives_channels_last_results(
    implementation, memory, other, kernel, dtype
):
    case = Case((2, 4, 5, 6), (6, 4, kernel, kernel))
    x, weight, bias, grad_output = drawn(case, integers, dtype, memory)
    weight = laid_out(weight, other)
    operator = conv2d(implementation)
    if implementation == "winograd" and kernel == 1:
        with pytest.raises(NotImplementedError, match="winograd"):
            operator.forward(x, weight, bias)
        return
    expected, expected_grads = by_torch(case, x, weight, bias, grad_output)
    output = operator.forward(x, weight, bias)
    assert_equal(output, expected.numpy())
    assert_order(output, expected)
    grads = operator.backward(grad_output, x, weight, bias)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert_equal(grad, wanted.numpy())
        assert_order(grad, wanted)


@each_dtype
@each_implementation
def test_an_unbatched_image_gives_an_unbatched_result(implementation, dtype):
    x, weight, bias, grad_output = drawn(CASES["3x3"], integers, dtype)
    given, grad_output = (x[0], weight, bias), grad_output[0]
    expected, expected_grads = by_torch(CASES["3x3"], *given, grad_output)
    operator = conv2d(implementation)
    assert_equal(operator.forward(*given, padding=1), expected.numpy())
    grads = operator.backward(grad_output, *given, padding=1)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert_equal(grad, wanted.numpy())


@pytest.mark.parametrize(
    ("images", "weight"),
    [((0, 3, 5, 6), (4, 3, 3, 3)), ((2, 0, 5, 6), (4, 0, 3, 3)), ((0, 5, 6), (4, 0, 3, 3))],
    ids=["no images", "no channels", "no channels, unbatched"],
)
@each_implementation
def test_nothing_in_gives_nothing_out_and_zero_gradients(implementation, images, weight):
    given = [np.ones(shape, np.float32) for shape in (images, weight, weight[:1])]
    tensors = [tensor(array).requires_grad_() for array in given]
    expected = F.conv2d(*tensors)
    operator = conv2d(implementation)
    output = operator.forward(*given)
    assert_equal(output, expected.detach().numpy())
    grads = operator.backward(output, *given)
    for grad, like in zip(grads, given, strict=True):
        assert_equal(grad, np.zeros_like(like))


@each_implementation
def test_arguments_may_be_read_only_repeated_in_memory_and_unaligned(implementation):
    x, weight, bias, grad_output = drawn(CASES["3x3"], integers, "float32")
    x.flags.writeable = False
    weight = np.broadcast_to(weight[:1, :1], weight.shape)
    packed = np.zeros(bias.size, np.dtype([("pad", "u1"), ("value", "f4")]))["value"]
    packed[:] = bias
    assert not packed.flags.aligned
    given = (x, weight, packed)
    plain = tuple(np.array(array) for array in given)
    operator = conv2d(implementation)
    assert_equal(operator.forward(*given, padding=1), operator.forward(*plain, padding=1))
    grads = operator.backward(grad_output, *given, padding=1)
    for grad, wanted in zip(grads, operator.backward(grad_output, *plain, padding=1), strict=True):
        assert_equal(grad, wanted)


@each_memory
@each_implementation
def test_the_arguments_stay_as_they_were(implementation, memory):
    arrays = drawn(CASES["3x3, full vectors"], integers, "float32", memory)
    before = [array.copy() for array in arrays]
    *given, grad_output = arrays
    operator = conv2d(implementation)
    operator.forward(*given, padding=1)
    operator.backward(grad_output, *given, padding=1)
    for array, was in zip(arrays, before, strict=True):
        assert_equal(array, was)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@each_memory
@each_implementation
def test_nan_and_infinity_in_the_input_travel_as_in_torch(implementation, memory, value):
    x, weight, bias, _ = drawn(CASES["3x3, full vectors"], integers, "float32")
    x[1, 3, 4, 9] = value
    x = laid_out(x, memory)
    output = conv2d(implementation).forward(x, weight, bias, padding=1)
    expected = F.conv2d(*map(tensor, (x, weight, bias)), padding=1).numpy()
    if implementation != "winograd":
        assert_equal(output, expected)
        return
    # Winograd's sums reach over a tile of 4 x 4 pixels, and infinity minus itself is NaN there.
    assert not np.isfinite(output[~np.isfinite(expected)]).any()
    far = np.ones(output.shape, bool)
    far[1, :, 1:8, 6:13] = False
    assert_equal(output[far], expected[far])
