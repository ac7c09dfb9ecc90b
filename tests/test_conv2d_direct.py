"""The fast conv2d: how its work is cut and shared changes no bit; gradients, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.conv2d import direct, plans, weight_cuts, weight_plans
from kernels.simd import Avx512
from kernels.threads import most_threads
from tests.conv2d_checks import assert_exact, draw_call
from tests.kernel_checks import Guard, assert_equal, tensor
from tests.kernel_inputs import integers, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")


@pytest.mark.parametrize("threads", range(1, most_threads() + 1))
@pytest.mark.parametrize(
    ("block", "heavy", "tasks", "few"),
    [
        pytest.param(1, 0, 64, 1, id="a row a block"),
        pytest.param(3000, 0, 5, 7, id="blocks that do not divide"),
        pytest.param(1 << 19, 1 << 10, 16, 98, id="one block, its weights cut"),
        pytest.param(1 << 12, 1 << 10, 64, 98, id="blocks and weights cut"),
    ],
)
def test_how_work_is_cut_changes_no_bit(block, heavy, tasks, few, threads, monkeypatch):
    given = draw_call((5, 9, 11, 8), (70, 9, 3, 3), "float32", normal)
    arguments = {"padding": (1, 2), "stride": (1, 2)}
    expected = kernels.get("conv2d", "numba").forward(*given, **arguments)
    grad = normal(np.random.default_rng(1), expected.shape, "float32")
    (grad_input, _, _) = kernels.get("conv2d", "numba").backward(grad, *given, **arguments)
    monkeypatch.setattr(plans, "BLOCK_BYTES", block)
    monkeypatch.setattr(plans, "HEAVY_BLOCK_BYTES", block)
    monkeypatch.setattr(plans, "HEAVY_PIXELS", heavy)
    monkeypatch.setattr(plans, "HEAVY_BYTES", 0)
    monkeypatch.setattr(plans, "TASKS", tasks)
    monkeypatch.setattr(plans, "FEW_PIXELS", few)
    with fresh_plans():
        guard = Guard(monkeypatch)
        conv = kernels.get("conv2d", "numba_threads", threads=threads)
        assert_equal(conv.forward(*given, **arguments), expected)
        assert_equal(conv.backward(grad, *given, **arguments)[0], grad_input)
        guard.check()


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        pytest.param((3, 24, 9, 11), (40, 24, 3, 3), id="tiles of channels"),
        pytest.param((3, 3, 9, 11), (40, 3, 3, 3), id="tiles of a filter's numbers"),
    ],
)
@pytest.mark.parametrize("pixels", [1, 20, 10**6])
def test_gradients_are_exact_however_pixels_are_cut(pixels, x, weight, monkeypatch):
    monkeypatch.setattr(weight_cuts, "PIXELS", pixels)
    with fresh_plans():
        conv = kernels.get("conv2d", "numba_threads")
        assert_exact(conv, draw_call(x, weight, "float32", integers), {"padding": 1})


@pytest.mark.parametrize("threads", range(1, most_threads() + 1))
def test_threads_change_no_bit_of_a_gradient(threads):
    given = draw_call((4, 20, 17, 13), (40, 20, 3, 3), "float32", normal)
    grad = normal(np.random.default_rng(1), (4, 40, 17, 13), "float32")
    alone = kernels.get("conv2d", "numba").backward(grad, *given, padding=1)
    ours = kernels.get("conv2d", "numba_threads", threads=threads).backward(grad, *given, padding=1)
    for actual, expected in zip(ours, alone, strict=True):
        assert_equal(actual, expected)


@pytest.mark.parametrize("implementation", kernels.names("conv2d"))
def test_relu_at_the_end_keeps_nan_and_infinity(implementation):
    given = [array.copy() for array in draw_call((1, 3, 6, 5), (20, 3, 3, 3), "float32", normal)]
    given[0][0, 0, 2, 2] = np.nan
    given[2][:2] = np.inf, -np.inf
    conv = kernels.get("conv2d", implementation)
    if implementation == "winograd":
        given[0][np.isnan(given[0])] = 1  # it spreads a NaN over its tile
    actual = conv.forward(*given, padding=1, relu=True)
    expected = F.relu(tensor(conv.forward(*given, padding=1))).numpy()
    assert np.isnan(expected).any() == np.isnan(given[0]).any()
    assert_equal(actual, expected)


class fresh_plans:  # noqa: N801 - used as a `with` statement's verb
    """Plans made within are made anew, and forgotten afterwards."""

    CACHES = (
        direct._forward_work,
        direct._gradient_work,
        weight_plans.channel_products,
        weight_plans.point_products,
    )

    def __enter__(self):
        self._forget()

    def __exit__(self, *exception):
        self._forget()

    def _forget(self):
        for cache in self.CACHES:
            cache.cache_clear()


@pytest.mark.parametrize("channels", [3, 16, 32, 40], ids=lambda count: f"{count} channels")
@pytest.mark.parametrize("filters", [20, 32], ids=lambda count: f"{count} filters")
def test_the_gradient_of_a_weight_is_exact_whether_pixels_are_packed_or_not(channels, filters):
    given = draw_call((3, channels, 9, 11), (filters, channels, 3, 3), "float32", integers)
    grad = integers(np.random.default_rng(1), (3, filters, 9, 11), "float32")
    expected = torch.nn.grad.conv2d_weight(
        tensor(given[0].copy()), given[1].shape, tensor(grad.copy()), padding=1
    )
    actual = kernels.get("conv2d", "numba_threads").backward(grad, *given, padding=1)[1]
    assert_equal(actual, expected.numpy())


@pytest.mark.parametrize(
    ("x", "weight", "arguments"),
    [
        pytest.param(
            (2, 20, 15, 17), (18, 20, 1, 1), {"stride": (2, 3), "padding": (0, 1)}, id="1x1"
        ),
        pytest.param(
            (2, 20, 15, 17), (18, 20, 3, 2), {"stride": 2, "dilation": (1, 4)}, id="even columns"
        ),
        pytest.param((2, 20, 5, 3), (18, 20, 1, 1), {"padding": (2, 6)}, id="wide padding"),
        pytest.param(
            (70, 20, 3, 3), (18, 10, 3, 3), {"padding": 1, "groups": 2}, id="images in a block"
        ),
    ],
)
def test_gradients_are_exact_where_not_every_pixel_is_packed(x, weight, arguments):
    conv = kernels.get("conv2d", "numba_threads")
    assert_exact(conv, draw_call(x, weight, "float32", integers), arguments)


def test_what_is_kept_of_a_call_lets_no_wrong_one_pass():
    """True equals 1, and is refused after a call with 1 all the same; so is what failed before."""
    given = draw_call((1, 3, 6, 5), (4, 3, 3, 3), "float32", integers)
    conv = kernels.get("conv2d", "numba")
    expected = conv.forward(*given, stride=1, padding=1)
    for wrong in (True, 1.0, (1, True)):
        with pytest.raises(TypeError, match="stride must be a whole number"):
            conv.forward(*given, stride=wrong, padding=1)
    for _ in range(2):
        with pytest.raises(ValueError, match="larger than the padded input"):
            conv.forward(*given, dilation=9)
    assert_equal(conv.forward(*given, stride=[1], padding=(1, 1)), expected)


def test_equal_runs_of_tasks_hold_as_many_of_each_phase():
    """A strided convolution's input gradient: its phases differ in taps, so in work."""
    work, whole = direct._gradient_work(
        Avx512(), 4, (8, 28, 28, 128), (8, 56, 56, 64), (128, 64, 3, 3), (2, 2), (1, 1), (1, 1), 1
    )
    assert whole
    phases = work.blocks[work.tasks[:, 0], 6]
    for half in np.split(phases, 2):
        assert np.bincount(half).tolist() == [len(half) // 4] * 4


@pytest.mark.parametrize("rows", [13, 28, 56, 57])
def test_an_image_is_cut_into_an_even_number_of_blocks(rows):
    axis = plans.Axis(rows, rows, 1, (-1, 0, 1))
    plan = plans.make_plan(Avx512(), 4, 1, 64, 1, 64, axis, axis, (rows * rows * 64, rows * 64, 64))
    assert len(plan.blocks) % 2 == 0


def test_an_input_that_no_tap_reaches_has_gradient_zero():
    given = draw_call((2, 3, 1, 1), (4, 3, 1, 1), "float32", integers)
    assert_exact(kernels.get("conv2d", "numba"), given, {"stride": 2, "padding": 1})
