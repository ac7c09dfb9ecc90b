"""conv2d's GPU sources against torch, thread by thread on the host grid, or on a GPU."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
import torch.nn.functional as F

from kernels.conv2d import device_plans
from kernels.gpu.device import MOST_ELEMENTS
from tests.conv2d_checks import CASES, LONG, MARKS, NAMES, Case, by_torch, drawn, float64
from tests.gpu_checks import each_gpu, each_parallel, poisoned
from tests.kernel_checks import about, assert_equal, assert_within, tensor
from tests.kernel_inputs import integers, normal
from tests.test_conv2d_refusals import NOT_WHOLE, REFUSED

pytestmark = MARKS

TILES = {
    "3x3": Case((2, 33, 13, 21), (131, 33, 3, 3), {"padding": 1}),
    "3x3 of stride 2": Case((2, 33, 26, 21), (70, 33, 3, 3), {"stride": 2, "padding": 1}),
    "2 groups, all different": Case(
        (3, 14, 25, 17),
        (34, 7, 3, 7),
        {"groups": 2, "stride": (1, 2), "padding": (2, 3), "dilation": (2, 1)},
    ),
    "whole vectors": Case((3, 35, 8, 18), (68, 35, 1, 1)),
}
"""More than two tiles of rows, columns and depth in most directions, which divide none."""
PLANES = Case((3, 2, 87, 101), (6, 2, 2, 2))
"""Enough positions for several slices of the gradient of the bias."""
PHASES = Case((2, 9, 11, 12), (11, 9, 3, 2), {"stride": (2, 3), "padding": 1})
"""Its products have more and fewer steps: some splits of them are empty."""


def everything(operator, case, arrays):
    """Output and gradients."""
    *given, grad_output = arrays
    grads = operator.backward(grad_output, *given, **case.arguments)
    return [operator.forward(*given, **case.arguments), *grads]


def assert_exact(operator, case, arrays):
    output, grads = by_torch(case, *arrays)
    found = everything(operator, case, arrays)
    for name, actual, wanted in zip(("output", *NAMES), found, (output, *grads), strict=True):
        with about(name):
            assert_equal(actual, wanted.numpy())


PLANS = (device_plans.forward, device_plans.grad_input, device_plans.grad_weight)


@contextmanager
def made_by(tile, splits):
    """Within it all products are made by that tile, in their order, and by so many splits."""

    def choose(_, tiles, *__):
        return tiles[min(tile, len(tiles) - 1)], splits

    try:
        with patch.object(device_plans, "choose", choose):
            for plan in PLANS:
                plan.cache_clear()
            yield
    finally:
        for plan in PLANS:
            plan.cache_clear()


def call_every_kernel(operator, rng):
    """Every kernel of both sources, by few small blocks."""
    x, weight = normal(rng, (2, 3, 3, 9), "float32"), normal(rng, (10, 3, 2, 2), "float32")
    for tile, splits in ((0, 2), (1, 1), (2, 1), (3, 1)):
        with made_by(tile, splits):
            y = operator.forward(x, weight, weight[:, 0, 0, 0], relu=True)
            operator.backward(y, x, weight, weight[:, 0, 0, 0])


CALLS = [("conv2d", call_every_kernel)]


@each_gpu
@pytest.mark.parametrize("case", CASES)
def test_integers_are_exact(gpu, implementation, case, monkeypatch):
    poisoned(monkeypatch)
    assert_exact(
        gpu("conv2d", implementation), CASES[case], drawn(CASES[case], integers, "float32")
    )


@each_gpu
@pytest.mark.parametrize("case", [*TILES.values(), PLANES], ids=[*TILES, "slices"])
def test_many_tiles_are_exact(gpu, implementation, case, monkeypatch):
    poisoned(monkeypatch)
    assert_exact(gpu("conv2d", implementation), case, drawn(case, integers, "float32"))


@each_gpu
@pytest.mark.parametrize("case", sorted(LONG))
def test_random_data_is_within_the_bound(gpu, implementation, case):
    case = CASES[case]
    arrays = drawn(case, normal, "float32")
    exact, exact_grads = by_torch(case, *float64(arrays))
    scale, scale_grads = by_torch(case, *map(np.abs, float64(arrays)))
    found = everything(gpu("conv2d", implementation), case, arrays)
    wanted = zip(found, (exact, *exact_grads), (scale, *scale_grads), strict=True)
    for name, (actual, *bound) in zip(("output", *NAMES), wanted, strict=True):
        with about(name):
            assert_within(actual, *(each.numpy() for each in bound))


@pytest.mark.parametrize("splits", [1, 2, 11])
@pytest.mark.parametrize(
    ("implementation", "tile"),
    [("cuda", 0), ("cuda", 1), ("cuda", 2), ("cuda", 3), ("metal", 0), ("metal", 1)],
)
def test_every_tile_is_exact_with_any_number_of_splits(
    gpu, implementation, tile, splits, monkeypatch
):
    poisoned(monkeypatch)
    operator = gpu("conv2d", implementation)
    with made_by(tile, splits):
        for case in (PHASES, TILES["whole vectors"], CASES["depthwise, 2 each"]):
            assert_exact(operator, case, drawn(case, integers, "float32"))


@each_parallel
def test_random_data_gives_the_same_bits_again(gpu, implementation):
    operator, case = gpu("conv2d", implementation), TILES["3x3 of stride 2"]
    arrays = drawn(case, normal, "float32")
    first, second = (everything(operator, case, arrays) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.tobytes() == other.tobytes()


@each_gpu
@pytest.mark.parametrize("case", ["3x3, full vectors", "7x7 of stride 2"])
def test_relu_is_done_on_the_way_out_and_lets_nan_through(gpu, implementation, case):
    case = CASES[case]
    x, weight, bias, _ = drawn(case, integers, "float32")
    x[0, 1, 2, 3] = np.nan
    output = gpu("conv2d", implementation).forward(x, weight, bias, relu=True, **case.arguments)
    expected = F.relu(F.conv2d(*map(tensor, (x, weight, bias)), **case.arguments))
    assert_equal(output, expected.numpy())


@each_gpu
def test_an_unbatched_image_gives_an_unbatched_result(gpu, implementation):
    x, weight, bias, grad_output = drawn(CASES["3x3"], integers, "float32")
    assert_exact(gpu("conv2d", implementation), CASES["3x3"], (x[0], weight, bias, grad_output[0]))


@pytest.mark.parametrize(
    ("images", "weight"),
    [((0, 3, 5, 6), (4, 3, 3, 3)), ((2, 0, 5, 6), (4, 0, 3, 3)), ((0, 5, 6), (4, 0, 3, 3))],
    ids=["no images", "no channels", "no channels, unbatched"],
)
@each_gpu
def test_nothing_in_gives_nothing_out_and_zero_gradients(
    gpu, implementation, images, weight, monkeypatch
):
    poisoned(monkeypatch)
    given = [np.ones(shape, np.float32) for shape in (images, weight, weight[:1])]
    operator = gpu("conv2d", implementation)
    output = operator.forward(*given)
    assert_equal(output, F.conv2d(*map(tensor, given)).numpy())
    for grad, like in zip(operator.backward(output, *given), given, strict=True):
        assert_equal(grad, np.zeros_like(like))


@each_gpu
def test_only_the_gradients_that_are_needed_are_made(gpu, implementation):
    *given, grad_output = drawn(CASES["3x3"], integers, "float32")
    operator = gpu("conv2d", implementation)
    everything = operator.backward(grad_output, *given, padding=1)
    for i in range(3):
        needs = tuple(j == i for j in range(3))
        grads = operator.backward(grad_output, *given, padding=1, needs=needs)
        assert [grad is not None for grad in grads] == list(needs)
        assert_equal(grads[i], everything[i])
    assert operator.backward(grad_output, *given[:2], padding=1)[2] is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@each_gpu
def test_nan_and_infinity_travel_as_in_torch(gpu, implementation, value):
    operator = gpu("conv2d", implementation)
    x, weight, bias, _ = drawn(CASES["3x3, full vectors"], integers, "float32")
    x[1, 3, 4, 9] = value
    expected = F.conv2d(*map(tensor, (x, weight, bias)), padding=1).numpy()
    assert_equal(operator.forward(x, weight, bias, padding=1), expected)
    case = CASES["3x3 unpadded"]  # a depth that fills no step
    x, weight, bias, grad_output = arrays = drawn(case, integers, "float32")
    weight[1, 0, 0, 0] = weight[2, 4, 2, 2] = value
    assert_equal(operator.forward(x, weight, bias), by_torch(case, *arrays)[0].numpy())
    x[0, 0, 0, 0] = grad_output[0, 0, 0, 0] = value
    grad = operator.backward(grad_output, x, weight, needs=(False, True, False))[1]
    assert_equal(grad, by_torch(case, *arrays)[1][1].numpy())


@each_gpu
def test_what_is_refused_on_arrays_is_refused_here(gpu, implementation):
    operator = gpu("conv2d", implementation)
    for images, weight, arguments, message in REFUSED:
        given = [np.ones(shape, np.float32) for shape in (images, weight)]
        with pytest.raises(ValueError, match=message):
            operator.forward(*given, **arguments)
        with pytest.raises(ValueError, match=message):
            operator.backward(given[0], *given, **arguments)
    *given, _ = drawn(CASES["3x3"], integers, "float32")
    for arguments, message in NOT_WHOLE:
        arguments = {  # the adapter would turn an array into a tensor
            name: value for name, value in arguments.items() if not isinstance(value, np.ndarray)
        }
        if arguments:
            with pytest.raises(TypeError, match=message):
                operator.forward(*given, **arguments)
    with pytest.raises(TypeError, match="relu must be True or False, got 'no'"):
        operator.forward(*given, relu="no")


SPOILT = (
    (lambda value: value.half(), TypeError, "must be float32, got float16"),
    (lambda value: value.tolist(), TypeError, "must be a torch tensor, got list"),
    (lambda value: value.repeat_interleave(2, -1)[..., ::2], ValueError, "must be contiguous"),
)


@each_gpu
def test_what_a_kernel_cannot_take_is_refused(gpu, implementation):
    operator = gpu("conv2d", implementation).on_device
    kind = operator._device.kind
    *given, grad_output = (tensor(a).to(kind) for a in drawn(CASES["3x3"], normal, "float32"))
    for i, name in enumerate(NAMES):
        for spoil, error, message in SPOILT:
            spoilt = [spoil(value) if j == i else value for j, value in enumerate(given)]
            with pytest.raises(error, match=f"{name} {message}"):
                operator.forward(*spoilt, padding=1)
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\), got \(3,\)"):
        operator.forward(*given[:2], given[2][:3])
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 4, 6, 5\), got \(2,"):
        operator.backward(grad_output[:, :3].contiguous(), *given, padding=1)
    with pytest.raises(ValueError, match=f"must be at most {MOST_ELEMENTS}, got"):
        operator.forward(*given, padding=2**20)
    with pytest.raises(ValueError, match=f"must be at most {MOST_ELEMENTS}, got"):
        operator.forward(*given, stride=2**31)
