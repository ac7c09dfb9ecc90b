"""The GPU sources of softmax and log_softmax against torch, on the host grid or on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels.softmax import device
from tests.gpu_checks import NAMES as IMPLEMENTATIONS
from tests.gpu_checks import PARALLEL, poisoned
from tests.kernel_checks import about, assert_within, tensor
from tests.kernel_inputs import normal
from tests.softmax_checks import CASES, FAR_APART, as_rows, by_torch, drawn
from tests.test_softmax import NAMES, scales

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

each_gpu = pytest.mark.parametrize(
    ("name", "implementation"), [(name, key) for name in NAMES for key in IMPLEMENTATIONS]
)
each_parallel = pytest.mark.parametrize(
    ("name", "implementation"), [(name, key) for name in NAMES for key in PARALLEL]
)

MORE = {
    "one class, inner": ((3, 1, 5), 1),
    "a row by half a warp": ((21, 64), 1),
    "a row by a warp": ((9, 500), 1),
    "a row by two warps": ((5, 1024), 1),
    "a row by four warps": ((3, 1999), 1),
    "a row by a block": ((2, 4096), 1),
    "inner by one thread each": ((1, 16, 700), 1),
    "inner by many": ((2, 300, 11), 1),
    "inner read twice": ((2, 600, 9), 1),
}
"""Beside the operators' cases: every number of threads that share a position."""
ALL = CASES | MORE


def check(op, name, shape, dim):
    """Forward and backward against torch, within the bound."""
    x, grad_output = drawn(shape, "float32")
    output, grad = by_torch(name, x, dim, grad_output)
    of_output, of_grad = scales(name, x, dim, output, grad_output)
    with about("output"):
        assert_within(op.forward(x, dim), output, of_output)
    with about("gradient of input"):
        assert_within(op.backward(grad_output, x, dim), grad, of_grad)


@each_gpu
@pytest.mark.parametrize("case", ALL)
def test_output_and_gradient_are_torchs(gpu, name, implementation, case, monkeypatch):
    poisoned(monkeypatch)
    check(gpu(name, implementation), name, *ALL[case])


@each_parallel
@pytest.mark.parametrize("bits", range(9))
@pytest.mark.parametrize("shape", [(67, 130), (3, 53, 11)], ids=str)
def test_any_number_of_threads_may_share_a_position(
    gpu, name, implementation, bits, shape, monkeypatch
):
    poisoned(monkeypatch)

    def lanes_of(outer, classes, inner):
        return bits, -(-outer * inner // (256 >> bits))

    monkeypatch.setattr(device, "lanes_of", lanes_of)
    check(gpu(name, implementation), name, shape, 1)


@pytest.mark.parametrize(
    ("shape", "lanes"),
    [
        ((1000, 10, 1), 4),
        ((1000, 128, 1), 32),
        ((1000, 1000, 1), 64),
        ((1000, 100000, 1), 256),
        ((2, 21, 65536), 2),
        ((1, 4096, 130), 32),
        ((5, 1, 1), 1),
    ],
)
def test_threads_that_share_a_position_are_as_many_as_its_classes_ask_for(shape, lanes):
    bits, blocks = device.lanes_of(*shape)
    assert 2**bits == lanes
    assert (blocks - 1) * (256 // lanes) < shape[0] * shape[2] <= blocks * (256 // lanes)


@each_gpu
@pytest.mark.parametrize("classes", [4, 64, 1024, 4400])
@pytest.mark.parametrize("dim", [0, 1])
def test_large_logits_infinity_and_nan_travel_as_torchs(gpu, name, implementation, classes, dim):
    x = as_rows(classes).astype("float32")
    x = x if dim else np.ascontiguousarray(x.T)
    op = gpu(name, implementation)
    actual = op.forward(x, dim)
    expected, grad = by_torch(name, x, dim, np.ones_like(x))
    known = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~known], expected[~known])
    size = np.abs(expected[known])
    assert_within(actual[known], expected[known], 100 * size if name == "softmax" else 8 + size)
    assert (np.isnan(op.backward(np.ones_like(x), x, dim)) == np.isnan(grad)).all()


@each_gpu
@pytest.mark.parametrize("dim", [0, 1])
def test_differences_that_overflow_travel_as_torchs(gpu, name, implementation, dim):
    above, allowed = {"softmax": (1, 1e-6), "log_softmax": (3e38, 0)}[name]
    given = tensor(FAR_APART).requires_grad_()
    output = getattr(torch, name)(given, dim)
    grad_output = np.full_like(FAR_APART, above)
    (grad,) = torch.autograd.grad(output, given, tensor(grad_output))
    op = gpu(name, implementation)
    np.testing.assert_allclose(op.forward(FAR_APART, dim), output.detach(), rtol=1e-5)
    actual = op.backward(grad_output, FAR_APART, dim)
    np.testing.assert_allclose(actual, grad, rtol=0, atol=allowed)


@each_gpu
def test_given_output_is_not_computed_again(gpu, name, implementation):
    x, grad_output = drawn((3, 5), "float32")
    total = grad_output.sum(1, keepdims=True, dtype="float64")
    if name == "softmax":
        output, expected = np.full_like(x, 0.5), 0.5 * (grad_output - 0.5 * total)
    else:
        output, expected = np.zeros_like(x), grad_output - total
    grad = gpu(name, implementation).backward(grad_output, x, 1, output=output)
    assert_within(grad, expected, np.abs(grad_output).sum(1, keepdims=True) + 0 * expected)


@each_gpu
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (2, 0, 4)])
def test_empty_input_gives_empty_output(gpu, name, implementation, shape):
    x = np.zeros(shape, "float32")
    op = gpu(name, implementation)
    assert op.forward(x, 1 if len(shape) > 1 else 0).shape == shape
    assert op.backward(x, x, 0).shape == shape


@each_gpu
def test_what_a_kernel_cannot_take_is_refused(gpu, name, implementation):
    operator = gpu(name, implementation).on_device
    x = torch.zeros(2, 3, device=operator._device.kind)
    with pytest.raises(TypeError, match="input must be float32, got int64"):
        operator.forward(x.long(), 0)
    with pytest.raises(ValueError, match=r"input must be contiguous, got strides \(1, 3\)"):
        operator.forward(x.T, 0)
    with pytest.raises(IndexError, match=r"dim must be from -2 to 1 for input of shape \(2, 3\)"):
        operator.forward(x, 2)
    with pytest.raises(IndexError, match="dim must be from -1 to 0"):
        operator.forward(x[0, 0], 1)
    for dim in (1.0, True, None):
        with pytest.raises(TypeError, match="dim must be a whole number"):
            operator.forward(x, dim)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 3\).*, got \(3, 2\)"):
        operator.backward(x.reshape(3, 2), x, 1)
    with pytest.raises(ValueError, match=r"output must have shape \(2, 3\).*, got \(1, 3\)"):
        operator.backward(x, x, 1, output=x[:1])
    with pytest.raises(TypeError, match="output must be a torch tensor"):
        operator.backward(x, x, 1, output=[1])


def every_way(operator, rng):
    """Lanes of one thread, a warp, a block and across; classes in registers and read twice."""
    for shape in ((9, 3, 1), (9, 70, 1), (2, 1100, 1), (1, 4200, 1), (2, 3, 131), (1, 520, 9)):
        x = normal(rng, shape, "float32")
        operator.backward(x, x, 1)


CALLS = [("softmax", every_way), ("log_softmax", every_way)]
"""Each launches every kernel."""
