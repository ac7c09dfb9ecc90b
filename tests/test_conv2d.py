"""conv2d in every implementation against torch: values, gradients, memory, threads, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.pytorch import torch_threads
from kernels.registry import OPERATORS
from tests.kernel_checks import (
    DTYPES,
    FORMATS,
    Guard,
    about,
    assert_equal,
    assert_order,
    assert_within,
    integers,
    laid_out,
    normal,
    tensor,
)

# torch says so of its own padding "same"; ours pads alike, and says nothing.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")

IMPLEMENTATIONS = kernels.names("conv2d")
OURS = [name for name in IMPLEMENTATIONS if name != "torch"]
THREADED = [name for name in OURS if OPERATORS["conv2d"].algorithms[name].threaded]
NAMES = ("input", "weight", "bias")


@dataclass(frozen=True)
class Case:
    """Shapes and arguments of one call."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)


CASES = {
    "3x3": Case((2, 3, 6, 5), (4, 3, 3, 3), {"padding": 1}),
    "3x3, padding > kernel": Case((1, 3, 4, 5), (4, 3, 3, 3), {"padding": (4, 5)}),
    "3x3 unpadded": Case((1, 5, 7, 6), (3, 5, 3, 3)),
    "3x3, more channels than a vector": Case((1, 19, 5, 9), (37, 19, 3, 3), {"padding": 1}),
    "3x3, full vectors": Case((2, 32, 7, 15), (64, 32, 3, 3), {"padding": 1}),
    "3x3 of stride 2": Case((2, 16, 9, 8), (32, 16, 3, 3), {"stride": 2, "padding": 1}),
    "1x1": Case((2, 6, 5, 4), (7, 6, 1, 1)),
    "1x1 of stride 2": Case((2, 20, 5, 6), (17, 20, 1, 1), {"stride": 2}),
    "7x7 of stride 2": Case((1, 3, 17, 16), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    "one channel, 5x5": Case((3, 1, 11, 12), (6, 1, 5, 5), {"padding": 2}),
    "kernel = image": Case((2, 3, 4, 5), (4, 3, 4, 5)),
    "stride > kernel": Case((2, 2, 8, 9), (3, 2, 2, 2), {"stride": 3}),
    "all different": Case(
        (2, 2, 11, 13), (3, 2, 3, 2), {"stride": (2, 1), "padding": (1, 3), "dilation": (1, 3)}
    ),
    "padding > kernel": Case((1, 2, 3, 3), (2, 2, 2, 2), {"padding": 3}),
    "kernel > image": Case((2, 3, 2, 1), (2, 3, 5, 3), {"padding": (2, 1)}),
    "one pixel, 3x3": Case((2, 3, 1, 1), (4, 3, 3, 3), {"padding": 1}),
    "last rows unread": Case((1, 2, 10, 10), (2, 2, 3, 3), {"stride": 4}),
    "2 groups": Case((2, 6, 5, 6), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": Case((2, 20, 6, 5), (20, 1, 3, 3), {"groups": 20, "padding": 1}),
    "depthwise, 2 each": Case((1, 3, 6, 5), (6, 1, 2, 3), {"groups": 3, "stride": 2}),
    "valid": Case((1, 2, 5, 6), (3, 2, 3, 2), {"padding": "valid", "stride": [2, 1]}),
    "same": Case((2, 3, 6, 5), (4, 3, 3, 5), {"padding": "same"}),
    "same, even kernel": Case((2, 3, 5, 6), (4, 3, 4, 2), {"padding": "same"}),
    "same, even kernel, dilated": Case(
        (1, 4, 6, 5), (4, 2, 2, 4), {"padding": "same", "dilation": (3, 1), "groups": 2}
    ),
}


def claims(implementation, case):
    """Whether the implementation says that it does such a call."""
    if implementation != "winograd":
        return True
    given = case.arguments
    plain = all(given.get(name, 1) == 1 for name in ("stride", "dilation", "groups"))
    return plain and case.weight[2:] == (3, 3)


PAIRS = [(name, case) for name in IMPLEMENTATIONS for case in CASES]
CLAIMED = [pair for pair in PAIRS if claims(pair[0], CASES[pair[1]])]
LONG = {
    "3x3, more channels than a vector",
    "3x3, full vectors",
    "7x7 of stride 2",
    "1x1 of stride 2",
    "2 groups",
    "depthwise",
    "same, even kernel, dilated",
}
"""Cases whose sums are long, or take the parts that differ between algorithms."""

each_claimed = pytest.mark.parametrize(("implementation", "case"), CLAIMED)
each_long = pytest.mark.parametrize(
    ("implementation", "case"), [pair for pair in CLAIMED if pair[1] in LONG]
)
each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
each_memory = pytest.mark.parametrize("memory", FORMATS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True, scope="module")
def _torch_on_one_thread():
    """On shapes as small as these, threads cost more than they save."""
    with torch_threads(1):
        yield


def conv2d(implementation, threads=None):
    operator = kernels.get("conv2d", implementation, threads)
    reason = operator.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    return operator


def drawn(case, draw, dtype, memory="contiguous", seed=0):
    """input, weight, bias and the output's gradient."""
    rng = np.random.default_rng(seed)
    shapes = [case.input, case.weight, case.weight[:1]]
    shapes.append(F.conv2d(*map(torch.zeros, shapes), **case.arguments).shape)
    return [laid_out(draw(rng, tuple(shape), dtype), memory) for shape in shapes]


def by_torch(case, x, weight, bias, grad_output):
    """Output and gradients by torch and its autograd, in the arrays' dtype."""
    given = [tensor(array).requires_grad_() for array in (x, weight, bias)]
    output = F.conv2d(*given, **case.arguments)
    return output.detach(), torch.autograd.grad(output, given, tensor(grad_output))


def float64(arrays):
    return [array.astype(np.float64) for array in arrays]


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
def test_random_data_is_within_the_bound(implementation, case, memory, dtype):
    *given, _ = arrays = drawn(CASES[case], normal, dtype, memory)
    output = conv2d(implementation).forward(*given, **CASES[case].arguments)
    exact, _ = by_torch(CASES[case], *float64(arrays))
    scale, _ = by_torch(CASES[case], *map(np.abs, float64(arrays)))
    assert_within(output, exact.numpy(), scale.numpy())


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


@pytest.mark.parametrize(
    ("implementation", "case"), [pair for pair in PAIRS if pair not in CLAIMED]
)
def test_a_call_that_is_not_claimed_is_refused_by_name(implementation, case):
    *given, grad_output = drawn(CASES[case], integers, "float32")
    with pytest.raises(NotImplementedError, match=implementation):
        conv2d(implementation).forward(*given, **CASES[case].arguments)
    with pytest.raises(NotImplementedError, match=implementation):
        conv2d(implementation).backward(grad_output, *given, **CASES[case].arguments)


@each_implementation
def test_gradients_are_those_of_finite_differences(implementation):
    operator = conv2d(implementation)

    class Conv2d(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *given):
            ctx.save_for_backward(*given)
            return torch.from_numpy(operator.forward(*(g.numpy() for g in given), padding=1))

        @staticmethod
        def backward(ctx, grad_output):
            given = [tensor.numpy() for tensor in ctx.saved_tensors]
            grads = operator.backward(grad_output.contiguous().numpy(), *given, padding=1)
            return tuple(map(torch.from_numpy, grads))

    *given, _ = drawn(Case((2, 2, 4, 3), (3, 2, 3, 3)), normal, "float64")
    assert torch.autograd.gradcheck(Conv2d.apply, [tensor(g).requires_grad_() for g in given])


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


@pytest.mark.parametrize("case", ["3x3, more channels than a vector", "3x3, full vectors"])
@each_memory
@pytest.mark.parametrize("implementation", OURS)
def test_results_are_written_whole_and_nothing_beside_them(
    implementation, memory, case, monkeypatch
):
    *given, grad_output = drawn(CASES[case], integers, "float32", memory)
    guard = Guard(monkeypatch)
    operator = conv2d(implementation)
    operator.forward(*given, padding=1)
    operator.backward(grad_output, *given, padding=1)
    guard.check()


ON_MORE_THREADS_THAN_CPUS = """
import numpy as np

import kernels
from tests.kernel_checks import laid_out, normal

SHAPES = {shapes}
for images, filters, arguments in SHAPES:
    rng = np.random.default_rng(0)
    for memory in ("contiguous", "channels_last"):
        x, weight, bias = (
            laid_out(normal(rng, shape, "float32"), memory)
            for shape in (images, filters, filters[:1])
        )
        results = []
        for threads in (1, 2, 3, 5):
            operator = kernels.get("conv2d", {implementation!r}, threads)
            y = operator.forward(x, weight, bias, **arguments)
            results.append([y, *operator.backward(y, x, weight, bias, **arguments)])
        for one, *others in zip(*results):
            assert all(one.tobytes() == other.tobytes() for other in others)
print("equal")
"""


@pytest.mark.parametrize("implementation", THREADED)
def test_every_number_of_threads_gives_the_same_bits(implementation):
    shapes = [
        ((3, 7, 9, 11), (21, 7, 3, 3), {"padding": 1}),
        ((1, 16, 23, 5), (48, 16, 3, 3), {"padding": 1}),
        ((7, 3, 12, 13), (33, 3, 3, 3), {}),
    ]
    code = ON_MORE_THREADS_THAN_CPUS.format(shapes=shapes, implementation=implementation)
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_NUM_THREADS": "5"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout == "equal\n", told.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_threaded_result_is_the_one_thread_result(case):
    if not {"numba", "numba_threads"} <= set(IMPLEMENTATIONS):
        pytest.fail("conv2d has no numba and numba_threads")
    *given, grad_output = drawn(CASES[case], normal, "float32", "channels_last")
    results = []
    for operator in (conv2d("numba"), conv2d("numba_threads")):
        output = operator.forward(*given, **CASES[case].arguments)
        grads = operator.backward(grad_output, *given, **CASES[case].arguments)
        results.append([output, *grads])
    for one, other in zip(*results, strict=True):
        assert one.tobytes() == other.tobytes()


X, W = (2, 4, 6, 5), (3, 4, 3, 3)


@pytest.mark.parametrize(
    ("images", "weight", "arguments", "message"),
    [
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
    ],
)
def test_shapes_and_numbers_that_torch_refuses_are_value_errors(images, weight, arguments, message):
    given = [np.ones(shape, np.float32) for shape in (images, weight)]
    with pytest.raises((RuntimeError, ValueError)):
        F.conv2d(*map(tensor, given), **arguments)
    with pytest.raises(ValueError, match=message):
        conv2d("loops").forward(*given, **arguments)
    with pytest.raises(ValueError, match=message):
        conv2d("loops").backward(given[0], *given, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
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
    ],
)
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
@pytest.mark.parametrize(
    ("spoil", "came"),
    [
        (lambda array: array.tolist(), "list"),
        (tensor, "Tensor"),
        (np.ma.masked_array, "MaskedArray"),
        (lambda array: array.astype(np.int64), "int64"),
        (lambda array: array.astype(np.float16), "float16"),
        (lambda array: array.astype(np.complex64), "complex64"),
        (lambda array: array.astype(bool), "bool"),
        (lambda array: array.astype(">f4"), ">f4"),
        (lambda array: array.astype(object), "object"),
    ],
    ids=["list", "tensor", "masked", "int64", "half", "complex", "bool", "big-endian", "object"],
)
def test_what_is_no_array_of_floats_is_a_type_error(which, spoil, came):
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
