"""The checkers of the operators' tests can fail."""

from __future__ import annotations

import numpy as np
import pytest

import kernels
from kernels.conv2d import operator
from tests.kernel_checks import Guard, about, assert_equal, assert_order, assert_within, tensor
from tests.kernel_inputs import CANARY, FORMATS, laid_out

STRIDES = {
    "contiguous": (60, 20, 5, 1),
    "channels_last": (60, 1, 15, 3),
    "views": (-960, -160, -20, -2),
    "gaps": (240, 2, 60, 12),
    "contiguous_gaps": (240, 80, 10, 2),
}
"""Of two images of 3 x 4 x 5, in elements."""


def test_every_format_is_checked_here():
    assert set(FORMATS) < set(STRIDES)


@pytest.mark.parametrize("memory", STRIDES)
def test_laid_out_changes_the_memory_and_no_value(memory):
    array = np.arange(120.0).reshape(2, 3, 4, 5)
    laid = laid_out(array, memory)
    np.testing.assert_array_equal(laid, array)
    assert tuple(stride // 8 for stride in laid.strides) == STRIDES[memory]
    assert not np.shares_memory(laid, array)


@pytest.mark.parametrize("memory", STRIDES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 4), (2, 3, 4, 5, 6)])
def test_any_number_of_dimensions_is_laid_out(shape, memory):
    array = np.random.default_rng(0).random(shape)
    np.testing.assert_array_equal(laid_out(np.asarray(array), memory), array)


@pytest.mark.parametrize(
    "other",
    [np.ones((1, 3)), np.ones(3, np.float32), np.array([1, 1, 2.0]), np.array([1, 1, np.nan])],
    ids=["shape", "dtype", "value", "nan"],
)
def test_what_differs_is_not_equal(other):
    assert_equal(np.ones(3), np.ones(3))
    with pytest.raises(AssertionError):
        assert_equal(other, np.ones(3))


def test_another_memory_order_is_found():
    array = np.ones((2, 3, 4, 5))
    assert_order(array, tensor(array))
    with pytest.raises(AssertionError):
        assert_order(laid_out(array, "channels_last"), tensor(array))


@pytest.mark.parametrize("wrong", [1 + 1e-6, 1 - 1e-6, np.nan, np.inf])
def test_an_error_beyond_the_bound_is_found(wrong):
    exact, scale = np.ones(3), np.ones(3)
    assert_within(np.float32([1, 1 + 2e-7, 1 - 2e-7]), exact, scale)
    with pytest.raises(AssertionError, match=r"at \(1,\): got .*, wanted 1.0"):
        assert_within(np.float32([1, wrong, 1]), exact, scale)


def test_a_failed_check_says_of_what_it_was():
    with (
        pytest.raises(AssertionError, match="gradient of weight: 1 is not 2"),
        about("gradient of weight"),
    ):
        raise AssertionError("1 is not 2")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda y: y.base[: y.base.size // 3].fill(0), "outside of the result"),
        (lambda y: y.base[-1:].fill(0), "outside of the result"),
        (lambda y: y[0, 0, 0, :1].fill(CANARY), "left unwritten"),
    ],
    ids=["before", "behind", "unwritten"],
)
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_a_write_outside_and_a_result_unwritten_are_found(memory, spoil, message, monkeypatch):
    guard = Guard(monkeypatch)
    x, weight = (laid_out(np.ones(shape), memory) for shape in ((1, 2, 4, 4), (3, 2, 2, 2)))
    output = kernels.get("conv2d", "loops").forward(x, weight)
    guard.check()
    spoil(output)
    with pytest.raises(AssertionError, match=message):
        guard.check()


def test_a_guard_that_guarded_nothing_fails(monkeypatch):
    guard = Guard(monkeypatch)
    assert operator.empty == guard._empty
    with pytest.raises(AssertionError, match="no operator made room"):
        guard.check()
