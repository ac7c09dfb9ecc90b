"""softmax and log_softmax in every implementation against torch: values, gradient, memory,
threads, refusals.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernels
from tests.kernel_checks import (
    Guard,
    about,
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
from tests.softmax_checks import CASES, FAR_APART, as_rows, by_torch, drawn, spread

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

NAMES = ("softmax", "log_softmax")


def each(implementations):
    """Both operators, in each of their implementations."""
    pairs = [(name, key) for name in NAMES for key in implementations(name)]
    return pytest.mark.parametrize(("name", "implementation"), pairs)


each_implementation = each(kernels.names)
each_case = pytest.mark.parametrize("case", CASES)


def scales(name, x, dim, output, grad_output):
    """S of the bound 8 u S, for the output and for the gradient."""
    size, above = spread(x, dim), np.abs(grad_output)
    if name == "softmax":
        total = (above * output).sum(dim, keepdims=True) if x.ndim else 1
        return size * output, size * output * (above + total)
    total = above.sum(dim, keepdims=True) if x.ndim else above
    return size + np.abs(output), above + 2 * size * np.exp(output) * total


@each_implementation
@each_memory
@each_dtype
@each_case
def test_output_and_gradient_are_torchs(name, implementation, memory, dtype, case):
    shape, dim = CASES[case]
    x, grad_output = drawn(shape, dtype, memory)
    op = operator(name, implementation)
    output, grad = by_torch(name, x, dim, grad_output)
    of_output, of_grad = scales(name, x, dim, output, grad_output)
    with about("output"):
        assert_within(op.forward(x, dim), output, of_output)
    with about("gradient of input"):
        assert_within(op.backward(grad_output, x, dim), grad, of_grad)


@each_implementation
@each_memory
def test_results_are_contiguous_as_torchs(name, implementation, memory):
    x, grad_output = drawn((2, 3, 4, 5), "float32", memory)
    given = tensor(x).requires_grad_()
    output = getattr(torch, name)(given, 1)
    op = operator(name, implementation)
    assert_order(op.forward(x, 1), output.detach())
    (grad,) = torch.autograd.grad(output, given, tensor(grad_output))
    assert_order(op.backward(grad_output, x, 1), grad)


@each_implementation
@each_dtype
@pytest.mark.parametrize("classes", [4, 64])
@pytest.mark.parametrize("dim", [0, 1])
def test_large_logits_infinity_and_nan_travel_as_torchs(name, implementation, dtype, classes, dim):
    x = as_rows(classes).astype(dtype)
    x = x if dim else np.ascontiguousarray(x.T)
    actual = operator(name, implementation).forward(x, dim)
    expected = getattr(torch, name)(tensor(x).double(), dim).numpy()
    known = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~known], expected[~known])
    size = np.abs(expected[known])
    assert_within(actual[known], expected[known], 100 * size if name == "softmax" else 8 + size)


@each_implementation
@pytest.mark.parametrize("dim", [0, 1])
def test_differences_that_overflow_travel_as_torchs(name, implementation, dim):
    above, allowed = {"softmax": (1, 1e-6), "log_softmax": (3e38, 0)}[name]
    given = tensor(FAR_APART).requires_grad_()
    output = getattr(torch, name)(given, dim)
    grad_output = np.full_like(FAR_APART, above)
    (grad,) = torch.autograd.grad(output, given, tensor(grad_output))
    op = operator(name, implementation)
    np.testing.assert_allclose(op.forward(FAR_APART, dim), output.detach(), rtol=1e-5)
    actual = op.backward(grad_output, FAR_APART, dim)
    np.testing.assert_allclose(actual, grad, rtol=0, atol=allowed)


@each_implementation
def test_gradient_of_nan_is_torchs(name, implementation):
    x = as_rows(64).astype("float32")
    grad_output = np.ones_like(x)
    _, expected = by_torch(name, x, 1, grad_output)
    actual = operator(name, implementation).backward(grad_output, x, 1)
    assert (np.isnan(actual) == np.isnan(expected)).all()


@each_implementation
def test_given_output_is_not_computed_again(name, implementation):
    x, grad_output = drawn((3, 5), "float32")
    total = grad_output.sum(1, keepdims=True, dtype="float64")
    if name == "softmax":
        output, expected = np.full_like(x, 0.5), 0.5 * (grad_output - 0.5 * total)
    else:
        output, expected = np.zeros_like(x), grad_output - total
    grad = operator(name, implementation).backward(grad_output, x, 1, output=output)
    assert_within(grad, expected, np.abs(grad_output).sum(1, keepdims=True) + 0 * expected)


@each_implementation
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (2, 0, 4)])
def test_empty_input_gives_empty_output(name, implementation, shape):
    x = np.zeros(shape, "float32")
    op = operator(name, implementation)
    assert op.forward(x, 1 if len(shape) > 1 else 0).shape == shape
    assert op.backward(x, x, 0).shape == shape


@each_implementation
def test_read_only_and_unaligned_input_is_taken(name, implementation):
    x, grad_output = drawn((3, 50), "float64")
    room = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = room[1:].view("float64").reshape(x.shape)
    unaligned[...] = x
    unaligned.flags.writeable = False
    op = operator(name, implementation)
    assert (op.forward(unaligned, 1) == op.forward(x, 1)).all()
    assert (op.backward(grad_output, unaligned, 1) == op.backward(grad_output, x, 1)).all()


@each(threaded)
@pytest.mark.parametrize(("shape", "dim"), [((211, 173), 1), ((9001, 7), 1), ((3, 13, 1111), 1)])
def test_threads_change_no_bit_and_write_nothing_else(
    monkeypatch, name, implementation, shape, dim
):
    x, grad_output = drawn(shape, "float32")
    one = operator(name, "numba")
    expected = one.forward(x, dim), one.backward(grad_output, x, dim)
    guard = Guard(monkeypatch)
    for threads in (1, 2):
        op = operator(name, implementation, threads)
        assert op.forward(x, dim).tobytes() == expected[0].tobytes()
        assert op.backward(grad_output, x, dim).tobytes() == expected[1].tobytes()
    guard.check()


@each(by_hand)
def test_gradients_are_those_of_finite_differences(name, implementation):
    assert gradcheck(operator(name, implementation), drawn((3, 6), "float64")[0] / 4, dim=1)


X = np.zeros((2, 3), "float32")


@each_implementation
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([[1.0]], 0), TypeError, "input must be a NumPy array, got list"),
        ((X.astype(int), 0), TypeError, "input must be float32 or float64, got int64"),
        ((X.astype("float16"), 0), TypeError, "input must be float32 or float64, got float16"),
        ((X, 2), IndexError, r"dim must be from -2 to 1 for input of shape \(2, 3\), got 2"),
        ((X, -3), IndexError, "dim must be from -2 to 1"),
        ((np.zeros((), "float32"), 1), IndexError, "dim must be from -1 to 0"),
        ((X, 1.0), TypeError, r"dim must be a whole number, got 1\.0"),
        ((X, True), TypeError, "dim must be a whole number, got True"),
        ((X, None), TypeError, "dim must be a whole number, got None"),
    ],
)
def test_forward_refuses(name, implementation, arguments, error, match):
    with pytest.raises(error, match=match):
        operator(name, implementation).forward(*arguments)


@each_implementation
@pytest.mark.parametrize(
    ("grad_output", "output", "error", "match"),
    [
        (X.T, None, ValueError, r"grad_output must have shape \(2, 3\).*, got \(3, 2\)"),
        (X[:1], None, ValueError, r"grad_output must have shape \(2, 3\).*, got \(1, 3\)"),
        (X.astype("float64"), None, TypeError, "grad_output must be float32 as the input is"),
        (X, X.T, ValueError, r"output must have shape \(2, 3\).*, got \(3, 2\)"),
        (X, [1], TypeError, "output must be a NumPy array"),
    ],
)
def test_backward_refuses(name, implementation, grad_output, output, error, match):
    with pytest.raises(error, match=match):
        operator(name, implementation).backward(grad_output, X, 1, output=output)
