"""cross_entropy's GPU sources against torch, thread by thread on the host grid, or on a GPU."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kernels.cross_entropy import device
from tests.gpu_checks import each_gpu, each_parallel, poisoned
from tests.kernel_checks import about, assert_within, tensor
from tests.kernel_inputs import normal
from tests.softmax_checks import FAR_APART, as_rows
from tests.test_cross_entropy import REDUCTIONS, SHAPES, by_torch, classes, drawn, positions

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

MORE = [(23, 64), (9, 500), (3, 1999), (2, 4097), (1, 16, 300), (2, 300, 11), (2, 600, 9)]
"""Every number of threads that share a position; classes in registers and read twice."""

each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
each_target = pytest.mark.parametrize("target", ["labels", "probabilities"])


def bounds(x, wanted, weight, grad_output, reduction, smoothing):
    """S of 8 u S for the loss and the gradient: all shares of a position, times what its logarithms
    can be at most."""
    shape = x.shape
    labelled = wanted.dtype.kind != "f"
    spread = float(np.ptp(x)) + np.log(classes(shape)) + 1
    shares = 1.0 if labelled else np.abs(wanted).sum(1 if x.ndim > 1 else 0)
    most = 1.0 if weight is None else float(weight.max())
    size = np.broadcast_to((shares + smoothing) * most * spread, positions(shape))
    count = size.size if reduction == "mean" else 1
    few = 4 if reduction == "mean" and labelled else 1  # at least a quarter of the weight counts
    above = size if reduction == "none" else few * size.sum() / count
    scale = np.broadcast_to(np.abs(grad_output) / count * size * few, positions(shape))
    scale = np.expand_dims(scale, 1 if x.ndim > 1 else 0)
    return np.asarray(above), np.broadcast_to(scale, shape)


@each_gpu
@each_target
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradient_are_torchs(gpu, implementation, target, shape, monkeypatch):
    check(gpu, implementation, target, shape, monkeypatch)


@each_parallel
@each_target
@pytest.mark.parametrize("shape", MORE, ids=str)
def test_any_number_of_threads_may_share_a_position(
    gpu, implementation, target, shape, monkeypatch
):
    check(gpu, implementation, target, shape, monkeypatch)


def check(gpu, implementation, target, shape, monkeypatch):
    """All reductions, with and without weight and smoothing, against torch."""
    poisoned(monkeypatch)
    x, wanted, factor = drawn(shape, "float32", target)
    op = gpu("cross_entropy", implementation)
    rng = np.random.default_rng(1)
    for reduction, weight, smoothing in itertools.product(REDUCTIONS, (None, factor), (0.0, 0.25)):
        grad_output = normal(rng, positions(shape) if reduction == "none" else (), "float32")
        above, scale = bounds(x, wanted, weight, grad_output, reduction, smoothing)
        arguments = {"reduction": reduction, "label_smoothing": smoothing}
        output, grad = by_torch(x, wanted, weight, grad_output, **arguments)
        with about(f"output, {arguments}"):
            assert_within(np.asarray(op.forward(x, wanted, weight, **arguments)), output, above)
        with about(f"gradient of input, {arguments}"):
            assert_within(op.backward(grad_output, x, wanted, weight, **arguments), grad, scale)


@each_gpu
@each_reduction
@pytest.mark.parametrize("label", [10, -1, 2**40])
@pytest.mark.parametrize("shape", [(37, 10), (3, 10, 7)], ids=str)
def test_a_label_out_of_range_gives_nan_where_it_stands(
    gpu, implementation, reduction, label, shape, monkeypatch
):
    """And to the mean and the sum. The right labels' losses and gradients are as they would be."""
    poisoned(monkeypatch)
    x, target, weight = drawn(shape, "float32", "labels")
    op = gpu("cross_entropy", implementation)
    wrong = target.copy()
    wrong.reshape(-1)[[0, 18]] = label
    at = wrong == label
    given = {"weight": weight, "reduction": reduction, "label_smoothing": 0.1}
    actual, right = op.forward(x, wrong, **given), op.forward(x, target, **given)
    above = np.ones(right.shape, "float32")
    grad = np.moveaxis(op.backward(above, x, wrong, **given), 1, -1)
    right_grad = np.moveaxis(op.backward(above, x, target, **given), 1, -1)
    assert np.isnan(grad[at]).all()
    if reduction == "none":
        assert np.isnan(actual[at]).all()
        np.testing.assert_array_equal(actual[~at], right[~at])
    else:
        assert np.isnan(actual)
    if reduction != "mean":
        np.testing.assert_array_equal(grad[~at], right_grad[~at])


@each_gpu
@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(5, 3), (5, 60), (2, 3, 4)], ids=str)
def test_nothing_but_ignored_is_nan_as_mean_and_zero_as_sum(gpu, implementation, smoothing, shape):
    x, target, _ = drawn(shape, "float32", "labels")
    target[...] = -1
    op = gpu("cross_entropy", implementation)
    given = {"ignore_index": -1, "label_smoothing": smoothing}
    assert np.isnan(op.forward(x, target, **given))
    assert op.forward(x, target, reduction="sum", **given) == 0
    assert not op.forward(x, target, reduction="none", **given).any()
    for reduction in ("mean", "sum"):
        grad = op.backward(np.ones((), "float32"), x, target, reduction=reduction, **given)
        assert not grad.any()


@each_gpu
def test_ignored_label_may_be_a_class_or_none(gpu, implementation):
    x, target, weight = drawn((6, 10), "float32", "labels")
    op = gpu("cross_entropy", implementation)
    for ignored in (-100, 0, 3, 77, -(2**62)):
        target[1::4] = ignored
        given = {"ignore_index": ignored, "label_smoothing": 0.1}
        output, grad = by_torch(x, target, weight, **given)
        assert_within(np.asarray(op.forward(x, target, weight, **given)), output, np.asarray(100.0))
        actual = op.backward(np.ones((), "float32"), x, target, weight, **given)
        assert_within(actual, grad, np.full_like(grad, 10))


@each_gpu
@pytest.mark.parametrize("width", [4, 64, 1024])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_logits_infinity_and_nan_travel_as_torchs(gpu, implementation, width, smoothing):
    x = as_rows(width).astype("float32")
    op = gpu("cross_entropy", implementation)
    given = {"reduction": "none", "label_smoothing": smoothing}
    for label in (0, 1, 3, -100):
        target = np.full(len(x), label)
        output, grad = by_torch(x, target, **given)
        for actual, expected in (
            (op.forward(x, target, **given), output),
            (op.backward(np.ones(len(x), "float32"), x, target, **given), grad),
        ):
            known = np.isfinite(expected)
            np.testing.assert_array_equal(actual[~known], expected[~known])
            # one thread adds up to 1024 terms of one sign, from left to right: n u S
            allowed = (100 + 4 * np.abs(expected[known])) * max(1, width // 32)
            assert_within(actual[known], expected[known], allowed)


@each_gpu
@each_reduction
def test_losses_that_overflow_travel_as_torchs(gpu, implementation, reduction):
    x, target = np.repeat(FAR_APART, 3, axis=0), np.array([0, 1, 2, 0, 0, 2])
    given = tensor(x).requires_grad_()
    output = F.cross_entropy(given, tensor(target), reduction=reduction)
    (grad,) = torch.autograd.grad(output.sum(), given)
    op = gpu("cross_entropy", implementation)
    actual = op.forward(x, target, reduction=reduction)
    np.testing.assert_allclose(actual, output.detach(), rtol=1e-5)
    actual = op.backward(np.ones_like(actual), x, target, reduction=reduction)
    np.testing.assert_allclose(actual, grad, rtol=1e-5)


@each_gpu
def test_weightless_classes_give_nan_as_torchs(gpu, implementation):
    x, target, _ = drawn((5, 10), "float32", "labels")
    weight = np.zeros(10, "float32")
    _, grad = by_torch(x, target, weight)
    op = gpu("cross_entropy", implementation)
    assert np.isnan(op.forward(x, target, weight))
    actual = op.backward(np.ones((), "float32"), x, target, weight)
    assert (np.isnan(actual) == np.isnan(grad)).all()


@each_gpu
@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0), (0, 3, 2), (4, 0)], ids=str)
@each_target
def test_empty_input_is_torchs(gpu, implementation, shape, target):
    x = np.zeros(shape, "float32")
    wanted = x if target == "probabilities" else np.full(positions(shape), -100)
    op = gpu("cross_entropy", implementation)
    for reduction in REDUCTIONS:
        expected = F.cross_entropy(tensor(x), tensor(wanted), reduction=reduction).numpy()
        np.testing.assert_array_equal(op.forward(x, wanted, reduction=reduction), expected)
        above = np.ones(expected.shape, "float32")
        assert op.backward(above, x, wanted, reduction=reduction).shape == shape


@each_gpu
def test_labels_are_taken_in_torchs_types_and_shapes(gpu, implementation):
    x, target, _ = drawn((4, 3), "float32", "labels")
    target = np.abs(target) % 3
    op = gpu("cross_entropy", implementation)
    assert op.forward(x, target.astype("uint8")) == op.forward(x, target)
    assert op.forward(x[0], target[0:1]) == op.forward(x[0], np.asarray(target[0]))
    assert np.isnan(op.forward(np.zeros((2, 0), "float32"), np.zeros(2, "int64"), reduction="sum"))


@each_gpu
def test_the_weights_of_many_labels_are_added_by_many_blocks(gpu, implementation, monkeypatch):
    monkeypatch.setattr(device, "PART", 300)
    x, target, weight = drawn((1000, 3), "float32", "labels")
    _, grad = by_torch(x, target, weight)
    actual = gpu("cross_entropy", implementation).backward(
        np.ones((), "float32"), x, target, weight
    )
    np.testing.assert_allclose(actual, grad, rtol=1e-4, atol=1e-9)


@each_gpu
def test_what_a_kernel_cannot_take_is_refused(gpu, implementation):
    operator = gpu("cross_entropy", implementation).on_device
    x = torch.zeros(2, 3, device=operator._device.kind)
    labels = x.new_zeros(2, dtype=torch.int64)

    def refused(error, match, *arguments, **named):
        with pytest.raises(error, match=match):
            operator.forward(*arguments, **named)

    refused(TypeError, "input must be float32, got float16", x.half(), labels)
    refused(TypeError, "target must be a torch tensor, got list", x, [0, 1])
    refused(TypeError, "target must be int64 or uint8 labels.*got int32", x, labels.int())
    refused(TypeError, "target must be float32, got float16", x, x.half())
    refused(ValueError, r"target must be contiguous, got strides \(0,\)", x, labels[:1].expand(2))
    refused(ValueError, r"target must have shape \(2,\).*got \(1,\)", x, labels[:1])
    refused(ValueError, r"must have input's shape \(2, 3\), got \(2, 2\)", x, x.new_zeros(2, 2))
    refused(ValueError, r"weight must have shape \(3,\).*got \(2,\)", x, labels, x[0, :2])
    refused(ValueError, "ignore_index must be negative.*got 1", x, x, None, 1)
    refused(TypeError, r"ignore_index must be a whole number, got 0\.5", x, labels, None, 0.5)
    refused(ValueError, "reduction must be one of.*got 'max'", x, labels, reduction="max")
    refused(TypeError, "label_smoothing must be a number", x, labels, label_smoothing=True)
    refused(ValueError, "label_smoothing must be from 0 to 1", x, labels, label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(\), got \(2,\)"):
        operator.backward(x[:, 0].contiguous(), x, labels)


def every_way(operator, rng):
    """Labels and probabilities, some labels wrong; lanes in a warp, in two, and across."""
    for shape in ((9, 70, 1), (2, 600, 1), (1, 520, 3)):
        x = normal(rng, shape, "float32")
        target = rng.integers(-1, shape[1] + 1, (shape[0], shape[2]))
        operator.forward(x, target, x[0, :, 0])
        operator.backward(np.ones((), "float32"), x, target, x[0, :, 0], label_smoothing=0.5)
        operator.forward(x, x)


CALLS = [("cross_entropy", every_way)]
"""It launches every kernel."""
