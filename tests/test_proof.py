"""Claims about `proof`: what passes for equal, and what never does."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pytest_speedup.proof import ProofError, Tolerance, prove, tolerance_of

EXACT = Tolerance()
CLOSE = Tolerance(rtol=1e-3)


def test_equal_results_are_bitwise_equal() -> None:
    pairs = [
        (3, 3),
        ("a", "a"),
        (np.arange(3.0), np.arange(3.0)),
        (torch.arange(3.0), torch.arange(3.0)),
        ([1, (2.0, np.ones(2))], [1, (2.0, np.ones(2))]),
        ({"a": 1}, {"a": 1}),
        (None, None),
    ]
    for actual, expected in pairs:
        proof = prove(actual, expected, EXACT)
        assert proof.bitwise
        assert proof.max_abs_error == 0.0
        assert proof.tolerance is None


@pytest.mark.parametrize(
    ("actual", "expected", "says"),
    [
        (np.ones((2, 3)), np.ones((3, 2)), "shape (3, 2)"),
        (np.ones(2, np.float32), np.ones(2), "float64"),
        (torch.ones(2, 3), torch.ones(3, 2), "shape (3, 2)"),
        (torch.ones(2, dtype=torch.float64), torch.ones(2), "float32"),
        (np.ones(2), torch.ones(2), "Tensor"),
        (torch.ones(2), np.ones(2), "ndarray"),
        (3.0, 3, "int"),
        ([1, 2], (1, 2), "tuple"),
        ([1, 2], [1, 2, 3], "3 items"),
        ({"a": 1}, {"b": 1}, "keys"),
        ("a", "b", "'b'"),
        (None, 1, "int"),
        (np.array(["a"]), np.array(["b"]), "differ"),
    ],
)
def test_another_form_fails_also_with_a_tolerance(
    actual: object, expected: object, says: str
) -> None:
    for tolerance in (EXACT, CLOSE):
        with pytest.raises(ProofError, match=says.replace("(", r"\(").replace(")", r"\)")):
            prove(actual, expected, tolerance)


@pytest.mark.parametrize("make", [np.array, torch.tensor, list])
def test_the_last_bit_counts_without_a_tolerance(make: type) -> None:
    expected = make([1.0, 2.0])
    actual = make([1.0, math.nextafter(2.0, 3.0)])
    if make is torch.tensor:
        expected = torch.tensor([1.0, 2.0], dtype=torch.float64)
        actual = torch.tensor([1.0, math.nextafter(2.0, 3.0)], dtype=torch.float64)
    with pytest.raises(ProofError):
        prove(actual, expected, EXACT)
    proof = prove(actual, expected, CLOSE)
    assert not proof.bitwise
    assert proof.max_abs_error == pytest.approx(4.4e-16, rel=0.1)
    assert proof.tolerance == "rtol=0.001"


@pytest.mark.parametrize("tolerance", [EXACT, CLOSE, Tolerance(atol=1e30)])
@pytest.mark.parametrize("make", [np.array, torch.tensor])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_never_pass_against_a_number(
    make: type, wrong: float, tolerance: Tolerance
) -> None:
    with pytest.raises(ProofError):
        prove(make([1.0, wrong]), make([1.0, 2.0]), tolerance)
    with pytest.raises(ProofError):
        prove(make([1.0, 2.0]), make([1.0, wrong]), tolerance)


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_nan_passes_a_bound_of_ones_own_only_against_nan(make: type) -> None:
    anything = Tolerance(bound=lambda expected: expected * 0 + math.inf)
    with pytest.raises(ProofError):
        prove(make([math.nan]), make([1.0]), anything)
    proof = prove(make([math.nan, 1.0]), make([math.nan, 1.5]), Tolerance(bound=abs))
    assert proof.max_abs_error == 0.5


def test_a_bound_of_ones_own_is_held_elementwise() -> None:
    def tenth(expected: np.ndarray) -> np.ndarray:
        """a tenth of each value"""
        return abs(expected) / 10

    proof = prove(np.array([1.05, 10.5]), np.array([1.0, 10.0]), Tolerance(bound=tenth))
    assert proof.tolerance == "a tenth of each value"
    with pytest.raises(ProofError, match=r"1 of 2 values .* \[0\]: off by 0.5, allowed 0.1"):
        prove(np.array([1.5, 10.5]), np.array([1.0, 10.0]), Tolerance(bound=tenth))
    with pytest.raises(ProofError, match="1 of 2 values"):
        prove(torch.tensor([1.5, 10.5]), torch.tensor([1.0, 10.0]), Tolerance(bound=tenth))


def test_the_place_of_the_first_wrong_value_is_named() -> None:
    with pytest.raises(ProofError, match=r"at result\[1\]\['a'\]; the first is \[0, 2\]"):
        prove([0, {"a": np.array([[1, 2, 4]])}], [0, {"a": np.array([[1, 2, 3]])}], EXACT)


def test_a_check_may_report_facts() -> None:
    proof = prove(5, lambda result: {"top1": result / 5, "max_abs_error": 0.25}, EXACT)
    assert proof.facts == {"top1": 1.0}
    assert proof.max_abs_error == 0.25
    assert not proof.bitwise


@pytest.mark.parametrize(
    "check",
    [
        lambda result: result == 6,
        lambda result: (np.full(3, result) == 6).all(),  # numpy.False_, which is not False
        lambda result: (torch.full((3,), result) == 6).all(),
    ],
)
def test_a_check_that_returns_false_has_failed(check: Callable[[int], object]) -> None:
    with pytest.raises(ProofError, match="returned False"):
        prove(5, check, EXACT)
    prove(6, check, EXACT)


@pytest.mark.parametrize("answer", [0, 1, "wrong", [], np.array([True, False])])
def test_a_check_whose_answer_is_unclear_has_failed(answer: object) -> None:
    with pytest.raises(ProofError, match="returns True or False"):
        prove(5, lambda _: answer, EXACT)


def test_facts_are_told_in_plain_numbers() -> None:
    told = {"top1": np.float32(0.5), "seen": torch.tensor(3), "kind": ["a"], "max_abs_error": 0.25}
    proof = prove(5, lambda _: told, EXACT)
    assert proof.facts == {"top1": 0.5, "seen": 3, "kind": "['a']"}
    assert [type(fact) for fact in proof.facts.values()] == [float, int, str]
    assert proof.max_abs_error == 0.25


def test_a_check_that_tells_of_an_error_that_is_no_number_has_failed() -> None:
    with pytest.raises(ProofError, match="largest error of nan"):
        prove(5, lambda _: {"max_abs_error": math.nan}, EXACT)


def test_large_integers_are_compared_exactly() -> None:
    with pytest.raises(ProofError):
        prove(np.array([2**62 + 1]), np.array([2**62]), EXACT)


def test_empty_results_are_equal() -> None:
    assert prove(np.ones((0, 3)), np.ones((0, 3)), EXACT).bitwise
    assert prove(torch.ones(0, 3), torch.ones(0, 3), EXACT).bitwise


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"rtl": 1}, ValueError, "unknown key 'rtl'; allowed: rtol, atol"),
        ({"rtol": -1}, ValueError, "from 0 up"),
        ({"atol": math.nan}, ValueError, "from 0 up"),
        (0.1, TypeError, "got float"),
    ],
)
def test_a_wrong_tolerance_is_refused(given: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        tolerance_of(given)
