"""linear in every implementation against torch: values, gradients, memory, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.linear import direct
from tests.kernel_checks import (
    Guard,
    about,
    assert_equal,
    assert_order,
    assert_within,
    by_hand,
    each_dtype,
    each_memory,
    gradcheck,
    operator,
    tensor,
    threaded,
)
from tests.kernel_inputs import integers, laid_out, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

CASES = {
    "one number": ((1, 1), (1, 1)),
    "one row": ((1, 70), (9, 70)),
    "unbatched": ((37,), (50, 37)),
    "few rows": ((7, 130), (29, 130)),
    "8 rows, whole vectors": ((8, 64), (64, 64)),
    "many rows": ((31, 45), (300, 45)),
    "rows beyond a dot tile": ((75, 33), (41, 33)),
    "rows beyond a task": ((150, 20), (290, 20)),
    "a sum longer than a strip": ((3, 1100), (5, 1100)),
    "a sum packed twice": ((70, 270), (140, 270)),
    "more dimensions": ((2, 3, 4, 5), (7, 5)),
    "vector by vector": ((6,), (6,)),
    "rows by vector": ((2, 4, 6), (6,)),
}
"""Shapes of input and weight."""
NAMES = ("input", "weight", "bias")

each_implementation = pytest.mark.parametrize("implementation", kernels.names("linear"))
each_threaded = pytest.mark.parametrize("implementation", threaded("linear"))
each_case = pytest.mark.parametrize("case", CASES)


def drawn(case, draw, dtype, memory="contiguous"):
    """input, weight, bias and the gradient of the output."""
    rng = np.random.default_rng(0)
    given, weight = CASES[case]
    shapes = [given, weight, weight[:-1], given[:-1] + weight[:-1]]
    arrays = [laid_out(np.asarray(draw(rng, shape, "float64"), dtype), memory) for shape in shapes]
    if len(weight) == 1 and len(given) > 1:
        arrays[2] = None
    return arrays


def by_torch(x, weight, bias, grad_output, dtype=torch.float64):
    """Output and gradients by autograd."""
    given = [None if array is None else tensor(array).to(dtype).requires_grad_()
             for array in (x, weight, bias)]  # fmt: skip
    output = F.linear(*given)
    leaves = [leaf for leaf in given if leaf is not None]
    grads = torch.autograd.grad(output, leaves, tensor(grad_output).to(dtype))
    return output.detach().numpy(), [grad.numpy() for grad in grads]


@each_implementation
@each_memory
@each_dtype
@each_case
def test_whole_numbers_give_torchs_results_to_the_bit(implementation, memory, dtype, case):
    x, weight, bias, grad_output = drawn(case, integers, dtype, memory)
    output, grads = by_torch(x, weight, bias, grad_output, getattr(torch, dtype))
    op = operator("linear", implementation)
    with about("output"):
        assert_equal(op.forward(x, weight, bias), output)
    for name, actual, expected in zip(
        NAMES, op.backward(grad_output, x, weight, bias), grads, strict=bias is not None
    ):
        with about(f"gradient of {name}"):
            assert_equal(actual, expected)


@each_implementation
@each_dtype
@each_case
def test_normal_numbers_round_within_the_bound(implementation, dtype, case):
    x, weight, bias, grad_output = drawn(case, normal, dtype)
    output, grads = by_torch(x, weight, bias, grad_output)
    sizes = [None if array is None else np.asarray(np.abs(array))
             for array in (x, weight, bias, grad_output)]  # fmt: skip
    above, scales = by_torch(*sizes)
    op = operator("linear", implementation)
    with about("output"):
        assert_within(op.forward(x, weight, bias), output, above)
    results = op.backward(grad_output, x, weight, bias)
    for name, actual, expected, scale in zip(NAMES, results, grads, scales, strict=False):
        with about(f"gradient of {name}"):
            assert_within(actual, expected, scale)


@each_implementation
@each_memory
def test_output_is_contiguous_as_torchs(implementation, memory):
    x, weight, bias, grad_output = drawn("more dimensions", normal, "float32", memory)
    op = operator("linear", implementation)
    given = tensor(x).requires_grad_()
    output = F.linear(given, tensor(weight), tensor(bias))
    assert_order(op.forward(x, weight, bias), output.detach())
    (grad,) = torch.autograd.grad(output, given, tensor(grad_output))
    assert_order(op.backward(grad_output, x, weight, bias)[0], grad)


@each_implementation
def test_bias_may_be_left_out(implementation):
    x, weight, _, grad_output = drawn("few rows", integers, "float32")
    op = operator("linear", implementation)
    assert_equal(op.forward(x, weight), F.linear(tensor(x), tensor(weight)).numpy())
    assert op.backward(grad_output, x, weight)[2] is None


@each_implementation
@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_only_the_gradients_that_are_needed_are_made(implementation, needs):
    x, weight, bias, grad_output = drawn("few rows", integers, "float32")
    op = operator("linear", implementation)
    every = op.backward(grad_output, x, weight, bias)
    for need, actual, expected in zip(
        needs, op.backward(grad_output, x, weight, bias, needs=needs), every, strict=True
    ):
        if need:
            assert_equal(actual, expected)
        else:
            assert actual is None


@each_implementation
@pytest.mark.parametrize("rows", [3, 70])
def test_nan_and_infinity_travel_as_torchs(implementation, rows):
    rng = np.random.default_rng(0)
    x, weight = integers(rng, (rows, 37), "float32"), integers(rng, (40, 37), "float32")
    weight[weight == 0] = 1
    x[0, 36], x[1, 0], x[2, 5], weight[39, 36] = np.nan, np.inf, -np.inf, np.inf
    grad_output = integers(rng, (rows, 40), "float32")
    grad_output[1, 3] = np.nan
    output, grads = by_torch(x, weight, None, grad_output, torch.float32)
    op = operator("linear", implementation)
    assert_equal(op.forward(x, weight), output)
    for actual, expected in zip(op.backward(grad_output, x, weight), grads, strict=False):
        assert_equal(actual, expected)


@each_implementation
@pytest.mark.parametrize(
    ("given", "weight"), [((0, 3), (5, 3)), ((2, 0), (5, 0)), ((2, 3), (0, 3)), ((0,), (0,))]
)
def test_empty_input_is_torchs(implementation, given, weight):
    x, w = np.ones(given, "float32"), np.ones(weight, "float32")
    bias = np.full(weight[:-1], 2, "float32")
    above = np.ones(given[:-1] + weight[:-1], "float32")
    output, grads = by_torch(x, w, bias, above, torch.float32)
    op = operator("linear", implementation)
    assert_equal(op.forward(x, w, bias), output)
    for actual, expected in zip(op.backward(above, x, w, bias), grads, strict=True):
        assert_equal(actual, expected)


@each_threaded
@pytest.mark.parametrize(
    "case", ["many rows", "rows beyond a task", "a sum packed twice", "one row"]
)
def test_threads_change_no_bit_and_write_nothing_else(monkeypatch, implementation, case):
    monkeypatch.setattr(direct, "GRAIN", 1)
    arrays = drawn(case, normal, "float32")
    x, weight, bias, grad_output = arrays
    one = operator("linear", "numba")
    expected = [one.forward(x, weight, bias), *one.backward(grad_output, x, weight, bias)]
    guard = Guard(monkeypatch)
    for threads in (1, 2):
        op = operator("linear", implementation, threads)
        actual = [op.forward(x, weight, bias), *op.backward(grad_output, x, weight, bias)]
        assert [a.tobytes() for a in actual] == [e.tobytes() for e in expected]
    guard.check()


@pytest.mark.parametrize("implementation", by_hand("linear"))
def test_gradients_are_gradchecked(implementation):
    rng = np.random.default_rng(0)
    given = [normal(rng, shape, "float64") for shape in ((3, 5), (4, 5), (4,))]
    assert gradcheck(operator("linear", implementation), *given)


X, W, B = np.zeros((2, 3), "float32"), np.zeros((5, 3), "float32"), np.zeros(5, "float32")


@each_implementation
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([[1.0]], W, B), TypeError, "input must be a NumPy array, got list"),
        ((X.astype(int), W, B), TypeError, "input must be float32 or float64, got int64"),
        ((X, W.astype("float64"), B), TypeError, "weight must be float32 as the input is"),
        ((X, W, B.astype("float64")), TypeError, "bias must be float32 as the input is"),
        ((X, None, B), TypeError, "weight must be a NumPy array, got NoneType"),
        ((np.zeros((), "float32"), W), ValueError, "input must have 1 or"),
        ((X, W[None]), ValueError, "weight must have 1 or 2 dimensions"),
        ((X, W[:, :2]), ValueError, r"weight must have 3 columns.*got shape \(5, 2\)"),
        ((X, W, B[:4]), ValueError, r"bias must have shape \(5,\), got \(4,\)"),
        ((X, W, W), ValueError, "bias must have 1 dimensions"),
        ((X, W[0], B[:2]), ValueError, "bias must be None for a weight .I. and more than one row"),
    ],
)
def test_forward_refuses(implementation, arguments, error, match):
    with pytest.raises(error, match=match):
        operator("linear", implementation).forward(*arguments)


@each_implementation
@pytest.mark.parametrize(
    ("grad_output", "error", "match"),
    [
        (X, ValueError, r"grad_output must have shape \(2, 5\), got \(2, 3\)"),
        (X.astype("float64"), TypeError, "grad_output must be float32 as the input is"),
        (B, ValueError, "grad_output must have 2 dimensions"),
    ],
)
def test_backward_refuses(implementation, grad_output, error, match):
    with pytest.raises(error, match=match):
        operator("linear", implementation).backward(grad_output, X, W, B)


@each_threaded
@pytest.mark.parametrize("case", ["few rows", "many rows", "a sum longer than a strip"])
@pytest.mark.parametrize("tasks", [1, 3, 100])
def test_how_few_rows_are_cut_into_tasks_changes_no_bit(monkeypatch, implementation, case, tasks):
    x, weight, bias, _ = drawn(case, normal, "float32")
    expected = operator("linear", "numba").forward(x, weight, bias)
    monkeypatch.setattr(direct, "GRAIN", 1)
    monkeypatch.setattr(direct, "DOT_TASKS", tasks)
    monkeypatch.setattr(direct, "DOT_LEAST", 1)
    actual = operator("linear", implementation).forward(x, weight, bias)
    assert actual.tobytes() == expected.tobytes()
