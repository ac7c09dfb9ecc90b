"""softmax, log_softmax and cross_entropy by Triton, against torch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests import softmax_checks, test_cross_entropy
from tests.kernel_checks import about, assert_equal, assert_within, tensor
from tests.softmax_checks import FAR_APART, as_rows
from tests.test_cross_entropy import REDUCTIONS, SHAPES, each_reduction, each_target, positions
from tests.triton_checks import needs_triton

pytestmark = [pytest.mark.usefixtures("torch_on_one_thread"), needs_triton]

each_name = pytest.mark.parametrize("name", ["softmax", "log_softmax"])
CASES = softmax_checks.CASES | {
    "more than registers hold": ((2, 9001), 1),
    "many, and no neighbours": ((1, 300, 5), 1),
}


@each_name
@pytest.mark.parametrize("case", CASES)
def test_output_is_torchs(by_triton, name, case):
    shape, dim = CASES[case]
    x, gy = softmax_checks.drawn(shape, "float32")
    exact, _ = softmax_checks.by_torch(name, x, dim, gy)
    scale = softmax_checks.spread(x, dim) * (exact if name == "softmax" else np.ones(shape))
    assert_within(by_triton(name, "triton", x, dim), exact, np.asarray(scale))


@each_name
@pytest.mark.parametrize("width", [4, 64, 8200])
def test_large_logits_infinity_and_nan_travel_as_torchs(by_triton, name, width):
    x = as_rows(width).astype("float32")
    expected = getattr(torch, name)(torch.from_numpy(x).double(), 1).numpy()
    actual = by_triton(name, "triton", x, 1)
    known = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~known], expected[~known])
    assert_within(actual[known], expected[known], 200 + 4 * np.abs(expected[known]))


@each_name
@pytest.mark.parametrize("first", [-np.inf, np.inf, np.nan])
def test_infinity_and_nan_in_the_first_tile_meet_numbers_in_the_next(by_triton, name, first):
    x = np.zeros((1, 9000), "float32")
    x[:, :4500] = first
    expected = getattr(torch, name)(torch.from_numpy(x), 1).numpy()
    np.testing.assert_allclose(by_triton(name, "triton", x, 1), expected, rtol=1e-5)


@each_name
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)], ids=str)
def test_empty_is_torchs(by_triton, name, shape):
    assert by_triton(name, "triton", np.zeros(shape, "float32"), 1).shape == shape


@each_target
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_is_torchs(by_triton, shape, target):
    x, wanted, factor = test_cross_entropy.drawn(shape, "float32", target)
    spread = float(np.ptp(x)) + np.log(x.size) + 1
    for reduction, weight, smoothing in itertools.product(REDUCTIONS, (None, factor), (0.0, 0.25)):
        arguments = {"reduction": reduction, "label_smoothing": smoothing}
        shares = 1.0 if target == "labels" else np.abs(wanted).sum(1 if x.ndim > 1 else 0)
        most = 1.0 if weight is None else float(weight.max())
        size = np.broadcast_to((shares + smoothing) * most * spread, positions(shape))
        # at least a quarter of the weight counts in a mean
        scale = {"none": size, "sum": size.sum(), "mean": 4 * size.mean()}[reduction]
        exact, _ = test_cross_entropy.by_torch(
            x, wanted, weight, np.ones_like(size, "float32") if reduction == "none" else None,
            **arguments,
        )  # fmt: skip
        with about(f"{arguments}, {'un' if weight is None else ''}weighted"):
            actual = by_triton("cross_entropy", "triton", x, wanted, weight, **arguments)
            assert_within(actual, exact, np.asarray(scale))


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 40)], ids=str)
def test_nothing_but_ignored_is_nan_as_mean_and_zero_as_sum(by_triton, smoothing, shape):
    x, target, _ = test_cross_entropy.drawn(shape, "float32", "labels")
    target[...] = -1
    given = {"ignore_index": -1, "label_smoothing": smoothing}
    assert np.isnan(by_triton("cross_entropy", "triton", x, target, **given))
    assert by_triton("cross_entropy", "triton", x, target, reduction="sum", **given) == 0
    assert not by_triton("cross_entropy", "triton", x, target, reduction="none", **given).any()


@pytest.mark.parametrize("ignored", [-100, 0, 1, 77, -(2**63)])
def test_ignored_label_may_be_a_class_or_none(by_triton, ignored):
    x, target, weight = test_cross_entropy.drawn((6, 10), "float32", "labels")
    target[1::4] = ignored
    given = {"ignore_index": ignored, "label_smoothing": 0.1}
    expected, _ = test_cross_entropy.by_torch(x, target, weight, **given)
    actual = by_triton("cross_entropy", "triton", x, target, weight, **given)
    assert_within(actual, expected, np.asarray(100.0))


@each_reduction
def test_a_label_that_is_no_class_gives_nan(by_triton, reduction):
    x, target, weight = test_cross_entropy.drawn((6, 10), "float32", "labels")
    for wrong in (10, -1, 2**40, -(2**40)):
        target[2] = wrong
        given = {"reduction": reduction, "label_smoothing": 0.1}
        losses = by_triton("cross_entropy", "triton", x, target, weight, **given)
        assert np.isnan(losses if reduction != "none" else losses[2]).all()
        if reduction == "none":
            assert np.isfinite(np.delete(losses, 2)).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("label", [0, 3, -100])
def test_odd_logits_travel_as_torchs_to_the_loss(by_triton, smoothing, label):
    x = as_rows(64).astype("float32")
    target = np.full(len(x), label)
    given = {"reduction": "none", "label_smoothing": smoothing}
    expected, _ = test_cross_entropy.by_torch(x, target, None, np.ones(len(x)), **given)
    actual = by_triton("cross_entropy", "triton", x, target, **given)
    known = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~known], expected[~known])
    assert_within(actual[known], expected[known], 100 + 4 * np.abs(expected[known]))


@each_reduction
def test_losses_that_overflow_travel_as_torchs(by_triton, reduction):
    x, target = np.repeat(FAR_APART, 3, axis=0), np.array([0, 1, 2, 0, 0, 2])
    expected = F.cross_entropy(tensor(x), tensor(target), reduction=reduction).numpy()
    actual = by_triton("cross_entropy", "triton", x, target, reduction=reduction)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@each_reduction
@each_target
@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0), (4, 0)], ids=str)
def test_empty_loss_is_torchs(by_triton, reduction, target, shape):
    x = np.zeros(shape, "float32")
    wanted = x if target == "probabilities" else np.full(positions(shape), -100)
    expected = F.cross_entropy(tensor(x), tensor(wanted), reduction=reduction).numpy()
    assert_equal(by_triton("cross_entropy", "triton", x, wanted, reduction=reduction), expected)


def test_labels_may_be_bytes(by_triton):
    x, target, _ = test_cross_entropy.drawn((4, 3), "float32", "labels")
    target = np.abs(target) % 3
    loss = by_triton("cross_entropy", "triton", x, target)
    assert by_triton("cross_entropy", "triton", x, target.astype("uint8")) == loss
