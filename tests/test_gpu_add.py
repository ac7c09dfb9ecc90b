"""add's GPU sources against torch, thread by thread on the host grid, or on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gpu_checks import each_gpu, each_parallel, poisoned
from tests.kernel_checks import about, assert_equal, assert_within
from tests.kernel_inputs import integers, normal
from tests.test_add import SHAPES, truth

LARGER = [
    ((1025,), (1025,)),
    ((2, 1023), (1,)),
    ((3, 5, 7, 11), (5, 1, 1)),
    ((3, 5, 7, 11), (1, 5, 7, 11)),
    ((37, 41), (41,)),
    ((37, 41), (37, 1)),
    ((2000,), ()),
    ((7, 1, 3, 1, 5, 1, 2), (1, 2, 1, 3, 1, 4, 1)),
]

each_pair_of_shapes = pytest.mark.parametrize("shapes", SHAPES + LARGER, ids=str)


def _added(run, rng):
    for shapes in [((131,), (131,)), ((5, 6), (6,)), ((5, 6), (5, 1)), ((70,), ())]:
        a, b = (normal(rng, shape, "float32") for shape in shapes)
        run.backward(run.forward(a, b), a, b, alpha=2)


CALLS = [("add", _added)]
"""What reaches every path of the kernels, for the sanitizers."""


@each_gpu
@each_pair_of_shapes
def test_sums_and_gradients_are_torch_s(gpu, implementation, shapes, rng, monkeypatch):
    poisoned(monkeypatch)
    add = gpu("add", implementation)
    for draw, alpha in ((integers, 3), (integers, 1), (normal, 0.3)):
        a, b = (np.array(draw(rng, shape, "float32")) for shape in shapes)
        gy = np.array(draw(rng, np.broadcast_shapes(*shapes), "float32"))
        exact = truth(a, b, gy, alpha)
        scale = truth(*(np.asarray(abs(x)) for x in (a, b, gy)), alpha)
        ours = (add.forward(a, b, alpha=alpha), *add.backward(gy, a, b, alpha=alpha))
        for what, *values in zip(("output", "input", "other"), ours, exact, scale, strict=True):
            with about(what):
                if draw is integers:
                    assert_equal(values[0], values[1].astype(np.float32))
                else:
                    assert_within(*values)


@each_gpu
@pytest.mark.parametrize("alpha", [1, 0, -2.5, float("inf"), float("nan"), np.float32(0.5)])
def test_nan_and_infinity_travel_as_in_torch(gpu, implementation, alpha):
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], np.float32)
    add = gpu("add", implementation)
    for a, b in [(odd, odd[:, None].copy()), (odd, odd[::-1].copy()), (odd, odd[5:])]:
        given = [torch.from_numpy(x) for x in (a, b)]
        expected = torch.add(*given, alpha=float(alpha)).numpy()
        assert_equal(add.forward(a, b, alpha=alpha), expected)


@each_gpu
@pytest.mark.parametrize("alpha", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("shape", [(2, 6), (6,), (2, 1), ()], ids=str)
def test_a_gradient_times_infinity_or_nan_is_torch_s(gpu, implementation, alpha, shape):
    above = np.array([[np.nan, np.inf, -np.inf, 0, -0.0, 1], [2, 2, 2, 2, 0, -1]], np.float32)
    a, b = np.ones(above.shape, np.float32), np.ones(shape, np.float32)
    given = [torch.from_numpy(x).requires_grad_() for x in (a, b)]
    add = gpu("add", implementation)
    for gy in (above, np.ones_like(above), np.zeros_like(above)):
        grads = torch.autograd.grad(torch.add(*given, alpha=alpha), given, torch.from_numpy(gy))
        for ours, theirs in zip(add.backward(gy, a, b, alpha=alpha), grads, strict=True):
            assert_equal(ours, theirs.numpy())


@each_parallel
@pytest.mark.parametrize("first", [1, 2, 3])
def test_memory_that_begins_between_16_bytes_is_taken(gpu, implementation, first, rng):
    operator = gpu("add", implementation)
    x = torch.from_numpy(normal(rng, (2054,), "float32")).to(operator.kind)
    a, b, add = x[first : first + 2050], x[:2050], operator.on_device
    for left, right in ((a, b), (b, a)):
        assert torch.equal(add.forward(left, right), left + right)
    assert torch.equal(add.backward(a, b, b, alpha=2)[1], 2 * a)


@each_gpu
def test_a_gradient_that_is_grad_output_is_not_copied(gpu, implementation):
    operator = gpu("add", implementation)
    gy = torch.ones(2, 3, device=operator.kind)
    backward = operator.on_device.backward
    assert all(grad.data_ptr() == gy.data_ptr() for grad in backward(gy, gy, gy))
    assert backward(gy, gy, gy, needs=(False, True))[0] is None
    assert backward(gy, gy, gy, needs=(True, False))[1] is None


@each_gpu
def test_empty_tensors_add_to_empty_ones_and_give_zero_gradients(gpu, implementation):
    a, b = np.zeros((0, 3), np.float32), np.ones((1, 3), np.float32)
    add = gpu("add", implementation)
    assert add.forward(a, b).shape == (0, 3)
    grad_a, grad_b = add.backward(a, a, b)
    assert grad_a.shape == (0, 3)
    assert_equal(grad_b, np.zeros((1, 3), np.float32))


@each_parallel
def test_what_cannot_be_added_is_refused(gpu, implementation):
    operator = gpu("add", implementation)
    add, kind = operator.on_device, operator.kind
    x = torch.zeros(2, 3, device=kind)
    with pytest.raises(TypeError, match="other must be a torch tensor, got int"):
        add.forward(x, 2)
    with pytest.raises(TypeError, match="other must be float32, got float16"):
        add.forward(x, x.half())
    with pytest.raises(ValueError, match="other must be contiguous"):
        add.forward(x, x.T)
    with pytest.raises(ValueError, match=r"other must .* broadcasts with input's \(2, 3\), got"):
        add.forward(x, torch.zeros(2, device=kind))
    with pytest.raises(TypeError, match="alpha must be a real number, got True"):
        add.forward(x, x, alpha=True)
    with pytest.raises(ValueError, match="alpha must be a number of float32, got 1e"):
        add.forward(x, x, alpha=1e300)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3\), got \(3, 2\)"):
        add.backward(x.reshape(3, 2), x, x)
