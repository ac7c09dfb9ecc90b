"""softmax in every implementation against torch: values, gradient, memory, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernels
from tests.kernel_checks import (
    DTYPES,
    FORMATS,
    Guard,
    about,
    assert_order,
    assert_within,
    laid_out,
    tensor,
)
from tests.softmax_checks import (
    CASES,
    FAR_APART,
    as_rows,
    by_torch,
    drawn,
    operator,
    spread,
    threaded,
)

each_implementation = pytest.mark.parametrize("implementation", kernels.names("softmax"))
each_threaded = pytest.mark.parametrize("implementation", threaded("softmax"))
each_memory = pytest.mark.parametrize("memory", FORMATS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_case = pytest.mark.parametrize("case", CASES)


@each_implementation
@each_memory
@each_dtype
@each_case
def test_output_and_gradient_are_torchs(implementation, memory, dtype, case):
    shape, dim = CASES[case]
    x, grad_output = drawn(shape, dtype, memory)
    op = operator("softmax", implementation)
    output, grad = by_torch("softmax", x, dim, grad_output)
    scale = spread(x, dim) * output
    with about("output"):
        assert_within(op.forward(x, dim), output, scale)
    total = (np.abs(grad_output) * output).sum(dim, keepdims=True) if x.ndim else 1
    with about("gradient of input"):
        actual = op.backward(grad_output, x, dim)
        assert_within(actual, grad, scale * (np.abs(grad_output) + total))


@each_implementation
@each_memory
def test_results_are_contiguous_as_torchs(implementation, memory):
    x, grad_output = drawn((2, 3, 4, 5), "float32", memory)
    given = tensor(x).requires_grad_()
    output = torch.softmax(given, 1)
    op = operator("softmax", implementation)
    assert_order(op.forward(x, 1), output.detach())
    (grad,) = torch.autograd.grad(output, given, tensor(grad_output))
    assert_order(op.backward(grad_output, x, 1), grad)


@each_implementation
@each_dtype
@pytest.mark.parametrize("classes", [4, 64])
@pytest.mark.parametrize("dim", [0, 1])
def test_large_logits_infinity_and_nan_travel_as_torchs(implementation, dtype, classes, dim):
    x = as_rows(classes).astype(dtype)
    x = x if dim else np.ascontiguousarray(x.T)
    actual = operator("softmax", implementation).forward(x, dim)
    expected = torch.softmax(tensor(x).double(), dim).numpy()
    assert (np.isnan(actual) == np.isnan(expected)).all()
    known = ~np.isnan(expected)
    assert_within(actual[known], expected[known], 100 * expected[known])


@each_implementation
@pytest.mark.parametrize("dim", [0, 1])
def test_differences_that_overflow_travel_as_torchs(implementation, dim):
    given = tensor(FAR_APART).requires_grad_()
    output = torch.softmax(given, dim)
    grad_output = np.ones_like(FAR_APART)
    (grad,) = torch.autograd.grad(output, given, tensor(grad_output))
    op = operator("softmax", implementation)
    np.testing.assert_allclose(op.forward(FAR_APART, dim), output.detach(), rtol=1e-5)
    np.testing.assert_allclose(op.backward(grad_output, FAR_APART, dim), grad, atol=1e-6)


@each_implementation
def test_gradient_of_nan_is_torchs(implementation):
    x = as_rows(64).astype("float32")
    grad_output = np.ones_like(x)
    _, expected = by_torch("softmax", x, 1, grad_output)
    actual = operator("softmax", implementation).backward(grad_output, x, 1)
    assert (np.isnan(actual) == np.isnan(expected)).all()


@each_implementation
def test_given_output_is_not_computed_again(implementation):
    x, grad_output = drawn((3, 5), "float32")
    op = operator("softmax", implementation)
    output = np.full_like(x, 0.5)
    grad = op.backward(grad_output, x, 1, output=output)
    expected = 0.5 * (grad_output - 0.5 * grad_output.sum(1, keepdims=True, dtype="float64"))
    assert_within(grad, expected, np.abs(grad_output).sum(1, keepdims=True) + 0 * expected)


@each_implementation
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (2, 0, 4)])
def test_empty_input_gives_empty_output(implementation, shape):
    x = np.zeros(shape, "float32")
    op = operator("softmax", implementation)
    assert op.forward(x, 1 if len(shape) > 1 else 0).shape == shape
    assert op.backward(x, x, 0).shape == shape


@each_implementation
def test_read_only_and_unaligned_input_is_taken(implementation):
    x, grad_output = drawn((3, 50), "float64")
    room = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = room[1:].view("float64").reshape(x.shape)
    unaligned[...] = x
    unaligned.flags.writeable = False
    op = operator("softmax", implementation)
    assert (op.forward(unaligned, 1) == op.forward(x, 1)).all()
    assert (op.backward(grad_output, unaligned, 1) == op.backward(grad_output, x, 1)).all()


@each_threaded
@pytest.mark.parametrize(("shape", "dim"), [((211, 173), 1), ((9001, 7), 1), ((3, 13, 1111), 1)])
def test_threads_change_no_bit_and_write_nothing_else(monkeypatch, implementation, shape, dim):
    x, grad_output = drawn(shape, "float32")
    one = operator("softmax", "numba")
    expected = one.forward(x, dim), one.backward(grad_output, x, dim)
    guard = Guard(monkeypatch)
    for threads in (1, 2):
        op = operator("softmax", implementation, threads)
        assert op.forward(x, dim).tobytes() == expected[0].tobytes()
        assert op.backward(grad_output, x, dim).tobytes() == expected[1].tobytes()
    guard.check()


@each_threaded
def test_forward_is_gradchecked(implementation):
    op = operator("softmax", implementation)

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.from_numpy(op.forward(x.detach().numpy(), 1))

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            given = laid_out(grad.numpy(), "contiguous")
            return torch.from_numpy(op.backward(given, x.detach().numpy(), 1))

    x = torch.from_numpy(drawn((3, 6), "float64")[0] / 4).requires_grad_()
    assert torch.autograd.gradcheck(Ours.apply, (x,))


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
def test_forward_refuses(implementation, arguments, error, match):
    with pytest.raises(error, match=match):
        operator("softmax", implementation).forward(*arguments)


@each_implementation
@pytest.mark.parametrize(
    ("grad_output", "output", "error", "match"),
    [
        (X[:1], None, ValueError, r"grad_output must have shape \(2, 3\).*, got \(1, 3\)"),
        (X.astype("float64"), None, TypeError, "grad_output must be float32 as the input is"),
        (X, X.T, ValueError, r"output must have shape \(2, 3\).*, got \(3, 2\)"),
        (X, [1], TypeError, "output must be a NumPy array"),
    ],
)
def test_backward_refuses(implementation, grad_output, output, error, match):
    with pytest.raises(error, match=match):
        operator("softmax", implementation).backward(grad_output, X, 1, output=output)
