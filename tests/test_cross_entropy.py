"""cross_entropy in every implementation against torch: values, gradient, memory, threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from tests.kernel_checks import (
    Guard,
    about,
    assert_order,
    assert_within,
    each_dtype,
    each_memory,
    operator,
    tensor,
    threaded,
)
from tests.kernel_inputs import laid_out, normal
from tests.softmax_checks import FAR_APART, as_rows

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

SHAPES = [(7,), (6, 10), (5, 133), (900, 3), (1, 4500), (2, 3, 7), (2, 21, 9, 13), (2, 3, 2, 3, 4)]
REDUCTIONS = ("mean", "sum", "none")

each_implementation = pytest.mark.parametrize("implementation", kernels.names("cross_entropy"))
each_threaded = pytest.mark.parametrize("implementation", threaded("cross_entropy"))
each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
each_target = pytest.mark.parametrize("target", ["labels", "probabilities"])


def positions(shape):
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


def classes(shape):
    return shape[1] if len(shape) > 1 else shape[0]


def drawn(shape, dtype, kind, memory="contiguous"):
    """input, target and weight; every fourth label is ignored, some weights are 0."""
    rng = np.random.default_rng(len(shape))
    x = 3 * normal(rng, shape, dtype)
    if kind == "probabilities":
        target = rng.random(shape).astype(dtype)
    else:
        target = np.asarray(rng.integers(0, classes(shape), positions(shape)))
        if target.ndim:
            target.reshape(-1)[1::4] = -100
    weight = rng.integers(0, 5, classes(shape)).astype(dtype) + np.asarray(0.5, dtype)
    return [laid_out(array, memory) for array in (x, target, weight)]


def by_torch(x, target, weight=None, grad_output=None, **arguments):
    """Output and gradient of the input, by autograd in float64."""
    given = tensor(x).double().requires_grad_()
    wanted = tensor(target)
    wanted = wanted.double() if wanted.is_floating_point() else wanted
    factor = None if weight is None else tensor(weight).double()
    output = F.cross_entropy(given, wanted, factor, **arguments)
    above = torch.ones_like(output) if grad_output is None else tensor(grad_output).double()
    (grad,) = torch.autograd.grad(output, given, above)
    return output.detach().numpy(), grad.numpy()


@each_implementation
@each_memory
@each_dtype
@each_target
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradient_are_torchs(implementation, memory, dtype, target, shape):
    x, wanted, factor = drawn(shape, dtype, target, memory)
    op = operator("cross_entropy", implementation)
    spread = float(np.ptp(x)) + np.log(classes(shape)) + 1
    rng = np.random.default_rng(1)
    for reduction, weight, smoothing in itertools.product(REDUCTIONS, (None, factor), (0.0, 0.25)):
        # S of 8 u S: all shares of a position, times what its logarithms can be at most.
        shares = 1.0 if target == "labels" else np.abs(wanted).sum(1 if x.ndim > 1 else 0)
        most = 1.0 if weight is None else float(weight.max())
        size = np.broadcast_to((shares + smoothing) * most * spread, positions(shape))
        count = {"none": 1, "sum": 1, "mean": size.size}[reduction]
        above = size if reduction == "none" else size.sum() / count
        grad_output = normal(rng, positions(shape) if reduction == "none" else (), dtype)
        grad_output = np.asarray(grad_output, dtype)
        arguments = {"reduction": reduction, "label_smoothing": smoothing}
        output, grad = by_torch(x, wanted, weight, grad_output, **arguments)
        if reduction == "mean" and target == "labels":
            above = above * 4  # at least a quarter of the weight counts
        with about(f"output, {arguments}"):
            actual = op.forward(x, wanted, weight, **arguments)
            assert isinstance(actual, np.ndarray)
            assert_within(actual, output, np.asarray(above))
        with about(f"gradient of input, {arguments}"):
            actual = op.backward(grad_output, x, wanted, weight, **arguments)
            scale = np.abs(grad_output) / count * size * (4 if count > 1 else 1)
            if reduction == "none" and x.ndim > 1:
                scale = np.expand_dims(scale, 1)
            elif x.ndim > 1:
                scale = np.expand_dims(np.broadcast_to(scale, positions(shape)), 1)
            assert_within(actual, grad, np.broadcast_to(scale, shape))


@each_implementation
@each_memory
@each_target
def test_results_are_contiguous_as_torchs(implementation, memory, target):
    x, wanted, _ = drawn((2, 3, 4, 5), "float32", target, memory)
    op = operator("cross_entropy", implementation)
    given = tensor(x).requires_grad_()
    output = F.cross_entropy(given, tensor(wanted), reduction="none")
    assert_order(op.forward(x, wanted, reduction="none"), output.detach())
    (grad,) = torch.autograd.grad(output, given, torch.ones_like(output))
    ones = np.ones(output.shape, "float32")
    assert_order(op.backward(ones, x, wanted, reduction="none"), grad)


@each_implementation
@each_dtype
@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(5, 3), (5, 60), (2, 3, 4)], ids=str)
def test_nothing_but_ignored_is_nan_as_mean_and_zero_as_sum(
    implementation, dtype, smoothing, shape
):
    x, target, _ = drawn(shape, dtype, "labels")
    target[...] = -1
    op = operator("cross_entropy", implementation)
    given = {"ignore_index": -1, "label_smoothing": smoothing}
    assert np.isnan(op.forward(x, target, **given))
    assert op.forward(x, target, reduction="sum", **given) == 0
    assert not op.forward(x, target, reduction="none", **given).any()
    for reduction in ("mean", "sum"):
        grad = op.backward(np.ones((), dtype), x, target, reduction=reduction, **given)
        assert not grad.any()


@each_implementation
def test_ignored_label_may_be_a_class_or_none(implementation):
    x, target, weight = drawn((6, 10), "float64", "labels")
    op = operator("cross_entropy", implementation)
    for ignored in (-100, 0, 3, 77):
        target[1::4] = ignored
        expected, _ = by_torch(x, target, weight, ignore_index=ignored, label_smoothing=0.1)
        actual = op.forward(x, target, weight, ignore_index=ignored, label_smoothing=0.1)
        assert_within(actual, expected, np.asarray(100.0))


@each_implementation
@pytest.mark.parametrize("width", [4, 64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("label", [0, 1, 3, -100])
def test_large_logits_infinity_and_nan_travel_as_torchs(implementation, width, smoothing, label):
    x = as_rows(width).astype("float32")
    target = np.full(len(x), label)
    op = operator("cross_entropy", implementation)
    given = {"reduction": "none", "label_smoothing": smoothing}
    output, grad = by_torch(x, target, **given)
    for actual, expected in (
        (op.forward(x, target, **given), output),
        (op.backward(np.ones(len(x), "float32"), x, target, **given), grad),
    ):
        known = np.isfinite(expected)
        np.testing.assert_array_equal(actual[~known], expected[~known])
        # 64 terms of like size, from left to right in the plain loops
        assert_within(actual[known], expected[known], 100 + 4 * np.abs(expected[known]))


@each_implementation
@each_reduction
def test_losses_that_overflow_travel_as_torchs(implementation, reduction):
    x, target = np.repeat(FAR_APART, 3, axis=0), np.array([0, 1, 2, 0, 0, 2])
    given = tensor(x).requires_grad_()
    output = F.cross_entropy(given, tensor(target), reduction=reduction)
    (grad,) = torch.autograd.grad(output.sum(), given)
    op = operator("cross_entropy", implementation)
    actual = op.forward(x, target, reduction=reduction)
    np.testing.assert_allclose(actual, output.detach(), rtol=1e-5)
    actual = op.backward(np.ones_like(actual), x, target, reduction=reduction)
    np.testing.assert_allclose(actual, grad, rtol=1e-5)


@each_implementation
def test_weightless_classes_give_nan_as_torchs(implementation):
    x, target, _ = drawn((5, 10), "float32", "labels")
    weight = np.zeros(10, "float32")
    expected, grad = by_torch(x, target, weight)
    op = operator("cross_entropy", implementation)
    assert np.isnan(expected)
    assert np.isnan(op.forward(x, target, weight))
    actual = op.backward(np.ones((), "float32"), x, target, weight)
    assert (np.isnan(actual) == np.isnan(grad)).all()


@each_implementation
@each_reduction
@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0), (0, 3, 2), (4, 0)], ids=str)
@each_target
def test_empty_input_is_torchs(implementation, reduction, shape, target):
    x = np.zeros(shape, "float32")
    wanted = x if target == "probabilities" else np.full(positions(shape), -100)
    expected = F.cross_entropy(tensor(x), tensor(wanted), reduction=reduction).numpy()
    op = operator("cross_entropy", implementation)
    np.testing.assert_array_equal(op.forward(x, wanted, reduction=reduction), expected)
    above = np.ones(expected.shape, "float32")
    assert op.backward(above, x, wanted, reduction=reduction).shape == shape


@each_implementation
@pytest.mark.parametrize("dtype", ["int64", "uint8", ">i8"])
def test_labels_are_taken_in_torchs_types(implementation, dtype):
    x, target, _ = drawn((4, 3), "float32", "labels")
    target = np.abs(target) % 3
    op = operator("cross_entropy", implementation)
    if dtype == ">i8":
        with pytest.raises(TypeError, match="target must be int64 or uint8 labels"):
            op.forward(x, target.astype(dtype))
        return
    assert op.forward(x, target.astype(dtype)) == op.forward(x, target)
    assert op.forward(x[0], target[0:1].astype(dtype)) == op.forward(x[0], np.asarray(target[0]))


@each_implementation
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64, int])
def test_label_smoothing_may_be_a_number_of_numpys(implementation, kind):
    x, target, weight = drawn((6, 10), "float32", "labels")
    smoothing = kind(1) if issubclass(kind, (int, np.integer)) else kind(0.25)
    op = operator("cross_entropy", implementation)
    actual = op.forward(x, target, weight, label_smoothing=smoothing)
    assert actual == op.forward(x, target, weight, label_smoothing=float(smoothing))
    expected, _ = by_torch(x, target, weight, label_smoothing=smoothing)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@each_threaded
@each_target
@pytest.mark.parametrize("shape", [(211, 173), (9001, 7), (3, 13, 1111)], ids=str)
def test_threads_change_no_bit_and_write_nothing_else(monkeypatch, implementation, shape, target):
    x, wanted, weight = drawn(shape, "float32", target)
    one = operator("cross_entropy", "numba")
    above = np.ones((), "float32")
    given = {"weight": weight, "label_smoothing": 0.1}
    expected = [
        one.forward(x, wanted, **given, reduction="none"),
        one.forward(x, wanted, **given),
        one.backward(above, x, wanted, **given),
    ]
    guard = Guard(monkeypatch)
    for threads in (1, 2):
        op = operator("cross_entropy", implementation, threads)
        actual = [
            op.forward(x, wanted, **given, reduction="none"),
            op.forward(x, wanted, **given),
            op.backward(above, x, wanted, **given),
        ]
        assert [a.tobytes() for a in actual] == [e.tobytes() for e in expected]
    guard.check()


@each_implementation
@pytest.mark.parametrize("shape", [(3, 4), (3, 130), (3, 130, 2)], ids=str)
def test_nan_of_any_bits_stays_nan(implementation, shape):
    x = np.zeros(shape, "float32")
    bits = np.array([0x7F800001, 0x7FC00155, 0xFFFFFFFF, 0x7FFFFFFF], "uint32")
    op = operator("cross_entropy", implementation)
    for nan in bits.view("float32"):
        x[1, -1] = nan
        losses = op.forward(x, np.zeros(positions(shape), "int64"), reduction="none")
        assert np.isnan(losses[1]).all()
        assert np.isfinite(losses[[0, 2]]).all()
