"""add in every implementation against torch: rounding, memory, gradients, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernels
from kernels.add import direct
from tests.kernel_checks import (
    Guard,
    about,
    assert_equal,
    assert_order,
    assert_within,
    each_dtype,
    each_memory,
    tensor,
)
from tests.kernel_inputs import FORMATS, integers, laid_out, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

NAMES = kernels.names("add")
ARMS = [(name, 1) for name in NAMES] + [("numba_threads", 2), ("torch", 2)]
SHAPES = [
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), (1, 3, 4, 5)),
    ((2, 3, 4, 5), (2, 1, 1, 5)),
    ((2, 3, 4, 5), ()),
    ((1,), (2, 3, 4, 5)),
    ((2, 1, 4, 1), (3, 1, 5)),
    ((3, 1, 4, 1, 2), (2, 1, 3, 1)),
    ((5, 1), (1, 4)),
    ((), ()),
    ((1, 1), (1,)),
]

every = pytest.mark.parametrize("name", NAMES)
each_pair_of_shapes = pytest.mark.parametrize("shapes", SHAPES, ids=str)


def drawn(draw, rng, shape, dtype, memory):
    return laid_out(np.array(draw(rng, shape, dtype)), memory)


def truth(a, b, gy, alpha):
    """In float64: the result and both gradients, and the same on absolute values."""
    wide = [torch.from_numpy(x.astype(np.float64)).requires_grad_() for x in (a, b)]
    result = torch.add(*wide, alpha=alpha)
    grads = torch.autograd.grad(result, wide, torch.from_numpy(gy.astype(np.float64)))
    return [x.detach().numpy() for x in (result, *grads)]


@every
@each_memory
@each_dtype
@each_pair_of_shapes
def test_integers_add_exactly_with_their_gradients(name, memory, dtype, shapes, rng):
    a, b = (drawn(integers, rng, shape, dtype, memory) for shape in shapes)
    gy = drawn(integers, rng, np.broadcast_shapes(*shapes), dtype, memory)
    result, grad_a, grad_b = (x.astype(dtype) for x in truth(a, b, gy, 3))
    add = kernels.get("add", name)
    assert_equal(add.forward(a, b, alpha=3), result)
    ours = add.backward(gy, a, b, alpha=3)
    with about("gradient of input"):
        assert_equal(ours[0], grad_a)
    with about("gradient of other"):
        assert_equal(ours[1], grad_b)


@every
@each_dtype
@each_pair_of_shapes
def test_rounding_stays_within_the_bound(name, dtype, shapes, rng):
    a, b = (np.array(normal(rng, shape, dtype)) for shape in shapes)
    gy = np.array(normal(rng, np.broadcast_shapes(*shapes), dtype))
    exact = truth(a, b, gy, 0.3)
    scale = truth(*(np.asarray(abs(x)) for x in (a, b, gy)), 0.3)
    add = kernels.get("add", name)
    ours = (add.forward(a, b, alpha=0.3), *add.backward(gy, a, b, alpha=0.3))
    for what, *values in zip(("output", "input", "other"), ours, exact, scale, strict=True):
        with about(what):
            assert_within(*values)


@every
@pytest.mark.parametrize("alpha", [1, 0, -2.5, float("inf"), float("nan"), np.float32(0.5)])
def test_nan_and_infinity_travel_as_in_torch(name, alpha):
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], np.float32)
    expected = torch.add(
        torch.from_numpy(odd), torch.from_numpy(odd)[:, None], alpha=float(alpha)
    ).numpy()
    assert_equal(kernels.get("add", name).forward(odd, odd[:, None].copy(), alpha=alpha), expected)


@every
@pytest.mark.parametrize("alpha", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("shape", [(2, 6), (6,), (2, 1), ()], ids=str)
def test_a_gradient_times_infinity_or_nan_is_torch_s(name, alpha, shape):
    gy = np.array([[np.nan, np.inf, -np.inf, 0, -0.0, 1], [2, 2, 2, 2, 0, -1]], np.float32)
    a, b = np.ones(gy.shape, np.float32), np.ones(shape, np.float32)
    given = [tensor(x).requires_grad_() for x in (a, b)]
    for above in (gy, np.ones_like(gy), np.zeros_like(gy)):
        grads = torch.autograd.grad(torch.add(*given, alpha=alpha), given, tensor(above))
        for ours, theirs in zip(
            kernels.get("add", name).backward(above, a, b, alpha=alpha), grads, strict=True
        ):
            assert_equal(ours, theirs.numpy())


@every
@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 4, 5), (3, 1, 1), (4, 5), (2, 1, 4, 1)])
def test_results_lie_in_torch_s_order_of_memory(name, first, second, shape, rng):
    a = laid_out(integers(rng, (2, 3, 4, 5), "float32"), first)
    b = laid_out(integers(rng, shape, "float32"), second)
    for left, right in ((a, b), (b, a)):
        expected = tensor(left) + tensor(right)
        result = kernels.get("add", name).forward(left, right)
        assert_equal(result, expected.numpy())
        assert_order(result, expected)


@every
def test_permuted_arrays_keep_their_order(name, rng):
    a, b = (integers(rng, (4, 2, 3, 5), "float32").transpose(2, 0, 3, 1) for _ in range(2))
    expected = tensor(a) + tensor(b)
    result = kernels.get("add", name).forward(a, b)
    assert_equal(result, expected.numpy())
    assert_order(result, expected)


@every
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_gradients_lie_as_autograd_s(name, memory, rng):
    gy = laid_out(integers(rng, (2, 3, 4, 5), "float32"), memory)
    a, b = integers(rng, gy.shape, "float32"), integers(rng, (1, 3, 4, 1), "float32")
    wanted = [tensor(x).requires_grad_() for x in (a, b)]
    expected = torch.autograd.grad(torch.add(*wanted, alpha=2), wanted, tensor(gy))
    for ours, theirs in zip(
        kernels.get("add", name).backward(gy, a, b, alpha=2), expected, strict=True
    ):
        assert_equal(ours, theirs.numpy())
        assert_order(ours, theirs)


@every
def test_a_gradient_that_is_grad_output_is_not_copied(name):
    gy = np.ones((2, 3), np.float32)
    grads = kernels.get("add", name).backward(gy, gy, gy)
    assert all(np.shares_memory(grad, gy) for grad in grads)


@every
def test_gradients_that_are_not_needed_are_none(name):
    gy = np.ones((2, 3), np.float32)
    backward = kernels.get("add", name).backward
    assert backward(gy, gy, gy, needs=(False, True))[0] is None
    assert backward(gy, gy, gy, needs=(True, False))[1] is None


@every
def test_empty_arrays_add_to_empty_ones_and_give_zero_gradients(name):
    a, b = np.zeros((0, 3), np.float32), np.ones((1, 3), np.float32)
    add = kernels.get("add", name)
    assert add.forward(a, b).shape == (0, 3)
    grad_a, grad_b = add.backward(a, a, b)
    assert grad_a.shape == (0, 3)
    assert_equal(grad_b, np.zeros((1, 3), np.float32))


@every
def test_read_only_and_repeated_input_is_taken(name, rng):
    a = integers(rng, (4, 5), "float32")
    a.flags.writeable = False
    b = np.broadcast_to(integers(rng, (4, 1), "float32"), (4, 5))
    add = kernels.get("add", name)
    assert_equal(add.forward(a, b), a + b)
    grads = add.backward(a, a, b[:, :1])
    assert grads[0] is a
    assert_equal(grads[1], a.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("name", "threads"), ARMS)
@pytest.mark.parametrize("shape", [(3, 5, 7, 11), (5, 1, 1), (1, 5, 7, 11), (), (1, 7, 1)])
def test_tasks_that_do_not_divide_the_work_stay_within_it(name, threads, shape, rng, monkeypatch):
    monkeypatch.setattr(direct, "GRAIN", 13)
    guard = Guard(monkeypatch)
    a, gy = (integers(rng, (3, 5, 7, 11), "float32") for _ in range(2))
    b = np.array(integers(rng, shape, "float32"))
    result, grad_a, grad_b = (x.astype(np.float32) for x in truth(a, b, gy, 2))
    add = kernels.get("add", name, threads=threads)
    assert_equal(add.forward(a, b, alpha=2), result)
    ours = add.backward(gy, a, b, alpha=2)
    assert_equal(ours[0], grad_a)
    assert_equal(ours[1], grad_b)
    guard.check()


@pytest.mark.parametrize("shape", [(600,), (1, 1), (300, 1)])
def test_sums_are_the_same_bits_for_every_number_of_threads(shape, rng):
    gy, b = normal(rng, (300, 600), "float32"), np.zeros(shape, np.float32)
    one, two = (
        kernels.get("add", "numba_threads", threads=threads).backward(gy, gy, b)[1]
        for threads in (1, 2)
    )
    assert_equal(one, two)
    assert_equal(kernels.get("add", "numba").backward(gy, gy, b)[1], one)


@every
def test_what_torch_refuses_is_refused(name):
    add = kernels.get("add", name)
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeError, match="input must be a NumPy array, got float"):
        add.forward(1.0, x)
    with pytest.raises(TypeError, match="other must be a NumPy array, got int"):
        add.forward(x, 2)
    with pytest.raises(TypeError, match="input must be float32 or float64, got int64"):
        add.forward(np.zeros(3, np.int64), x)
    with pytest.raises(TypeError, match="other must be float32 as the input is, got float64"):
        add.forward(x, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"other must .* broadcasts with input's \(2, 3\), got"):
        add.forward(x, np.zeros(2, np.float32))
    with pytest.raises(TypeError, match="alpha must be a real number, got 1j"):
        add.forward(x, x, alpha=1j)
    with pytest.raises(TypeError, match="alpha must be a real number, got True"):
        add.forward(x, x, alpha=True)
    with pytest.raises(ValueError, match="alpha must be a number of float32, got 1e"):
        add.forward(x, x, alpha=1e300)
    with pytest.raises(ValueError, match="alpha must be a number of float32, got 1"):
        add.forward(x, x, alpha=10**400)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3\), got \(3, 2\)"):
        add.backward(x.reshape(3, 2), x, x)
    with pytest.raises(TypeError, match="grad_output must be float32 as the input is"):
        add.backward(np.zeros((2, 3)), x, x)
