"""The vectorised exp and log against NumPy's, in ulp, and that loops over them are vectors."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from numba import njit

from kernels.exponential import any_order, exp, exp_to_add, log, rank, unrank
from tests.kernel_inputs import DTYPES

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@njit
def exponentials(x, y):
    for i in range(x.size):
        y[i] = exp(x[i])


@njit
def logarithms(x, y):
    for i in range(x.size):
        y[i] = log(x[i])


@njit
def ranks(x, numbers, back):
    for i in range(x.size):
        numbers[i] = rank(x[i])
        back[i] = unrank(numbers[i])


@njit
def total(x):
    result = x.dtype.type(0)
    for i in range(x.size):
        result = any_order(result, x[i])
    return result


def every(dtype):
    """Bit patterns at even distances, through all floats, and the special ones."""
    whole = {"float32": np.uint32, "float64": np.uint64}[dtype]
    step = {"float32": 9973, "float64": 2**64 // 430_007}[dtype]
    bits = (np.arange(430_000, dtype=np.uint64) * np.uint64(step)).astype(whole)
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 88.7228, 88.723, -87.4, -103.9, -103.98,
           709.78, 709.79, -708.4, -745.1, -745.2, np.finfo(dtype).tiny,
           np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max]  # fmt: skip
    return np.concatenate([bits.view(dtype), np.array(odd, dtype)])


def ulps(actual, exact):
    """Distance from `exact`, a wider float; 0 where both are the same infinity, zero or NaN."""
    rounded = exact.astype(actual.dtype)
    same = (actual == rounded) | (np.isnan(actual) & np.isnan(rounded))
    lower = np.nextafter(np.abs(rounded), 0)
    unit = np.maximum(np.abs(rounded) - lower, np.finfo(actual.dtype).smallest_subnormal)
    with np.errstate(invalid="ignore"):
        distance = np.abs(actual - exact) / unit
    unlike = ~np.isfinite(actual) | ~np.isfinite(rounded)
    return np.where(same & unlike, 0, np.where(unlike, np.inf, distance))


@each_dtype
@pytest.mark.parametrize(
    ("function", "numpys", "most"), [(exponentials, np.exp, 1.1), (logarithms, np.log, 0.9)]
)
def test_error_is_about_an_ulp(dtype, function, numpys, most):
    rng = np.random.default_rng(0)
    x = np.concatenate([every(dtype), rng.uniform(-100, 100, 100_000).astype(dtype)])
    actual = np.empty_like(x)
    function(x, actual)
    wider = np.float64 if dtype == "float32" else np.longdouble
    if np.finfo(wider).nmant <= np.finfo(dtype).nmant:
        most += 0.5  # no wider float here: the other's own rounding
    with np.errstate(all="ignore"):
        exact = numpys(x.astype(wider))
        assert ulps(actual, exact).max() < most


@each_dtype
def test_ranks_are_in_the_order_of_the_floats(dtype):
    x = every(dtype)
    numbers = np.empty(x.size, {"float32": "int32", "float64": "int64"}[dtype])
    back = np.empty_like(x)
    ranks(x, numbers, back)
    assert back.tobytes() == x.tobytes()
    known = np.sort(x[~np.isnan(x)])
    sorted_numbers = np.empty(known.size, numbers.dtype)
    ranks(known, sorted_numbers, np.empty_like(known))
    rising = np.diff(known) > 0
    assert (sorted_numbers[1:][rising] > sorted_numbers[:-1][rising]).all()
    nans = numbers[np.isnan(x)]
    assert ((nans > sorted_numbers.max()) | (nans < sorted_numbers.min())).all()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86 assembly")
@pytest.mark.parametrize("function", [exponentials, logarithms])
def test_loops_are_vectors_and_call_nothing(function):
    x = np.ones(4, "float32")
    function(x, x.copy())
    assembly = function.inspect_asm(function.signatures[0])
    assert "mulps" in assembly, "no vector arithmetic"
    assert "expf" not in assembly
    assert "logf" not in assembly


def test_sum_in_any_order_keeps_nan_and_infinity():
    assert total(np.ones(1000, "float32")) == 1000
    x = np.ones(1000, "float32")
    x[500] = np.inf
    assert total(x) == np.inf
    x[3] = -np.inf
    assert np.isnan(total(x))


@njit
def exponentials_to_add(x, y):
    for i in range(x.size):
        y[i] = exp_to_add(x[i])


@each_dtype
def test_exponential_to_add_is_the_same_or_too_small_to_count(dtype):
    x = every(dtype)
    x = x[~(x > 0)]
    expected, actual = np.empty_like(x), np.empty_like(x)
    exponentials(x, expected)
    exponentials_to_add(x, actual)
    small, none = x < np.log(4 * np.finfo(dtype).tiny), np.isnan(x)
    assert np.isnan(actual[none]).all()
    np.testing.assert_array_equal(actual[~small & ~none], expected[~small & ~none])
    assert (actual[small] >= 0).all()
    assert (actual[small] <= 8 * np.finfo(dtype).tiny).all()
