"""conv2d and linear by Triton in each of its modes, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests import conv2d_checks, test_linear
from tests.conv2d_checks import CASES, Case
from tests.kernel_checks import about, assert_equal, assert_order, assert_within, tensor
from tests.kernel_inputs import integers, laid_out, normal
from tests.triton_checks import FACTORS, NAMES, SMALL, each_mode, needs_triton

pytestmark = [*conv2d_checks.MARKS, needs_triton]

CONVOLUTIONS = {name: case for name, case in CASES.items() if name != "3x3, full vectors"}
"""That one has 20 times the programs of the others, and nothing that they have not."""
CHOICE = (
    "3x3, more channels than a vector",  # a step reaches over several taps
    "3x3 of stride 2",  # a step stays within one
    "same, even kernel, dilated",
    "depthwise, 2 each",
)
MANY = {
    "3x3": Case((2, 32, 6, 5), (20, 32, 3, 3), {"padding": 1}),
    "1x1": Case((9, 50, 5, 5), (40, 50, 1, 1), {"stride": 2}),
}
"""Sums long enough that rounding shows."""

LINEAR = [
    case for case in test_linear.CASES if case not in ("rows beyond a task", "a sum packed twice")
]
"""Those are long for an interpreter, and about how a CPU goes about it."""
FEW = ("few rows", "rows beyond a dot tile", "rows by vector")

IN_MODES = [("triton", case) for case in CONVOLUTIONS]
IN_MODES += [(name, case) for name in NAMES[1:] for case in CHOICE]


def by_torch(case, x, weight, bias):
    return F.conv2d(*map(tensor, (x, weight, bias)), **case.arguments)


@pytest.mark.parametrize(("implementation", "case"), IN_MODES)
def test_whole_numbers_give_torchs_convolution_to_the_bit(by_triton, implementation, case):
    x, weight, bias, _ = conv2d_checks.drawn(CASES[case], integers, "float32")
    actual = by_triton(
        "conv2d", implementation, x, weight, bias, tile=SMALL, **CASES[case].arguments
    )
    assert_equal(actual, by_torch(CASES[case], x, weight, bias).numpy())


@each_mode
@pytest.mark.parametrize("case", MANY)
def test_convolution_is_within_its_modes_bound(by_triton, implementation, case):
    case = MANY[case]
    x, weight, bias, _ = conv2d_checks.drawn(case, normal, "float32")
    exact = by_torch(case, *conv2d_checks.float64([x, weight, bias])).numpy()
    scale = by_torch(case, *map(np.abs, conv2d_checks.float64([x, weight, bias]))).numpy()
    actual = by_triton("conv2d", implementation, x, weight, bias, tile=SMALL, **case.arguments)
    assert_within(actual, exact, scale, factor=FACTORS[implementation])
    assert (implementation == "triton") == (_worst(actual, exact, scale) < 8)
    if implementation == "triton_bf16":
        exact = by_torch(case, *conv2d_checks.float64([*_rounded(x, weight), bias])).numpy()
        assert_within(actual, exact, scale)


def _rounded(*arrays):
    """To bfloat16; of such operands products are exact."""
    return [torch.from_numpy(array).bfloat16().float().numpy() for array in arrays]


def _worst(actual, exact, scale):
    """The largest error as a multiple of u S."""
    return np.max(np.abs(actual - exact) / scale) * 2**24


@pytest.mark.parametrize(
    ("implementation", "case"), [(name, case) for name in NAMES for case in CHOICE]
)
def test_channels_last_input_has_its_output_there(by_triton, implementation, case):
    given = CASES[case]
    x, weight, bias, _ = conv2d_checks.drawn(given, integers, "float32")
    x = laid_out(x, "channels_last")
    actual = by_triton("conv2d", implementation, x, weight, bias, tile=SMALL, **given.arguments)
    expected = by_torch(given, x, weight, bias)
    assert_equal(actual, expected.numpy())
    assert_order(actual, expected.contiguous(memory_format=torch.channels_last))


def test_weight_may_lie_channels_last_and_leaves_the_output_contiguous(by_triton):
    case = CASES["3x3 of stride 2"]
    x, weight, bias, _ = conv2d_checks.drawn(case, integers, "float32")
    weight = laid_out(weight, "channels_last")
    actual = by_triton("conv2d", "triton", x, weight, bias, **case.arguments)
    assert_equal(actual, by_torch(case, x, weight, bias).numpy())
    assert actual.flags.c_contiguous


@each_mode
def test_relu_bias_and_batch_are_optional(by_triton, implementation, rng):
    x, weight = integers(rng, (5, 9, 7), "float32"), integers(rng, (6, 5, 3, 3), "float32")
    expected = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight))
    assert_equal(by_triton("conv2d", implementation, x, weight), expected.numpy())
    assert_equal(by_triton("conv2d", implementation, x, weight, relu=True), expected.relu().numpy())


def test_nan_goes_through_relu(by_triton):
    x, weight = np.full((1, 1, 2, 2), np.nan, "float32"), np.ones((1, 1, 1, 1), "float32")
    assert np.isnan(by_triton("conv2d", "triton", x, weight, relu=True)).all()


@pytest.mark.parametrize("shape", [(0, 3, 5, 5), (2, 0, 5, 5)], ids=str)
def test_empty_convolution_is_torchs(by_triton, shape):
    x, weight = np.zeros(shape, "float32"), np.zeros((4, shape[1], 3, 3), "float32")
    expected = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight)).numpy()
    assert_equal(by_triton("conv2d", "triton", x, weight), expected)


@pytest.mark.parametrize("tile", [None, SMALL], ids=["chosen", "small"])
@each_mode
def test_whole_numbers_give_torchs_linear_to_the_bit(by_triton, implementation, tile):
    for case in FEW if tile or implementation != "triton" else LINEAR:
        x, weight, bias, gy = test_linear.drawn(case, integers, "float32")
        expected, _ = test_linear.by_torch(x, weight, bias, gy, torch.float32)
        with about(case):
            assert_equal(by_triton("linear", implementation, x, weight, bias, tile=tile), expected)


@each_mode
@pytest.mark.parametrize("case", ["few rows", "a sum longer than a strip"])
def test_linear_is_within_its_modes_bound(by_triton, implementation, case):
    x, weight, bias, _ = test_linear.drawn(case, normal, "float32")
    given = [tensor(array).double() for array in (x, weight, bias)]
    exact, scale = F.linear(*given).numpy(), F.linear(*map(torch.abs, given)).numpy()
    actual = by_triton("linear", implementation, x, weight, bias)
    assert_within(actual, exact, scale, factor=FACTORS[implementation])
    assert (implementation == "triton") == (_worst(actual, exact, scale) < 8)


@pytest.mark.parametrize("shapes", [((0, 3), (4, 3)), ((2, 0), (4, 0)), ((2, 3), (0, 3))], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_empty_linear_is_torchs(by_triton, shapes, with_bias):
    x, weight = (np.ones(shape, "float32") for shape in shapes)
    bias = np.ones(len(weight), "float32") if with_bias else None
    expected = F.linear(tensor(x), tensor(weight), tensor(bias) if with_bias else None).numpy()
    assert_equal(by_triton("linear", "triton", x, weight, bias), expected)
