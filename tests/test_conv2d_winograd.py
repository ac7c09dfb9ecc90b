"""What is particular to conv2d by Winograd; the rest is in tests/test_conv2d*.py."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kernels.conv2d import winograd
from kernels.conv2d.operator import Conv2d
from kernels.conv2d.winograd import Winograd
from kernels.conv2d.winograd_transforms import INPUT, OUTPUT, WEIGHT
from kernels.simd import Avx2, aligned_empty
from kernels.threads import most_threads
from tests.kernel_checks import Guard, assert_equal, assert_within, tensor
from tests.kernel_inputs import CANARY, FORMATS, integers, laid_out, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

BLOCKS = ((3, 19, 13, 12), (37, 19, 3, 3))
"""More tiles than filters: tasks are blocks of tiles."""
PANELS = ((1, 70, 9, 7), (70, 70, 3, 3))
"""More filters than tiles: tasks are panels of filters, whose channels come in parts."""
LONG = ((2, 35, 15, 15), (130, 35, 3, 3))
"""The same with as many blocks as make it pay to ask for weights ahead."""
WAYS = {"blocks": BLOCKS, "panels": PANELS, "panels, many tiles": LONG}
SMALL = {"block_bytes": 1, "depth": 16, "span_bytes": 1}
"""Blocks of few tiles, few channels at a time."""

each_way = pytest.mark.parametrize("way", WAYS)


def drawn(shapes, draw, dtype="float32", memory="channels_last"):
    """input, weight, bias and the gradient of an output padded by 1."""
    rng = np.random.default_rng(0)
    images, weight = shapes
    output = (images[0], weight[0], *images[2:])
    return [laid_out(draw(rng, s, dtype), memory) for s in (images, weight, weight[:1], output)]


def results(operator, x, weight, bias, grad_output):
    """Output and gradients, padded by 1."""
    grads = operator.backward(grad_output, x, weight, bias, padding=1)
    return [operator.forward(x, weight, bias, padding=1), *grads]


def by_torch(x, weight, bias, grad_output):
    given = [tensor(array).requires_grad_() for array in (x, weight, bias)]
    output = F.conv2d(*given, padding=1)
    grads = torch.autograd.grad(output, given, tensor(grad_output))
    return [output.detach().numpy(), *(grad.numpy() for grad in grads)]


def test_the_matrices_are_those_of_a_correlation_with_three_taps():
    """In each output, a pixel times a tap has the factor that the definition gives it."""
    for output, row in enumerate(OUTPUT):
        for pixel in range(4):
            for tap in range(3):
                weight = sum(
                    Fraction(row[i]) * Fraction(WEIGHT[i][tap]) * Fraction(INPUT[i][pixel])
                    for i in range(4)
                )
                assert weight == (pixel == output + tap)


def test_sums_of_512_channels_are_exact_on_integers():
    arrays = drawn(((1, 512, 7, 7), (64, 512, 3, 3)), integers)
    for result, wanted in zip(results(Conv2d(Winograd()), *arrays), by_torch(*arrays), strict=True):
        assert_equal(result, wanted)


def test_512_channels_of_random_data_are_within_the_bound():
    arrays = [
        array.astype(np.float64) for array in drawn(((1, 512, 7, 7), (64, 512, 3, 3)), normal)
    ]
    given = [array.astype(np.float32) for array in arrays]
    exact, scale = by_torch(*arrays), by_torch(*map(np.abs, arrays))
    for result, *bound in zip(results(Conv2d(Winograd()), *given), exact, scale, strict=True):
        assert_within(result, *bound)


@each_way
def test_neither_blocks_nor_threads_change_a_bit(way):
    arrays = drawn(WAYS[way], normal)
    expected = results(Conv2d(Winograd(), 1), *arrays)
    for sizes in ({}, SMALL, {**SMALL, "depth": 48, "block_bytes": 1 << 15}):
        for threads in range(1, min(most_threads(), 4) + 1):
            found = results(Conv2d(Winograd(**sizes), threads), *arrays)
            for result, wanted in zip(found, expected, strict=True):
                assert result.tobytes() == wanted.tobytes()


@each_way
@pytest.mark.parametrize("memory", FORMATS)
def test_small_blocks_are_exact_and_write_nothing_beside_the_results(way, memory, monkeypatch):
    arrays = drawn(WAYS[way], integers, memory=memory)
    guard = Guard(monkeypatch)
    found = results(Conv2d(Winograd(**SMALL)), *arrays)
    guard.check()
    for result, wanted in zip(found, by_torch(*arrays), strict=True):
        assert_equal(result, wanted)


@each_way
@pytest.mark.parametrize("sizes", [{}, SMALL], ids=["default", "small"])
def test_scratch_memory_is_read_after_it_was_written_and_never_left(way, sizes, monkeypatch):
    rooms = []

    def poisoned(size, dtype):
        margin = 4096
        room = aligned_empty(size + 2 * margin, dtype)
        room[:] = np.nan
        room[:margin] = room[margin + size :] = CANARY
        rooms.append((room, margin, size))
        return room[margin : margin + size]

    monkeypatch.setattr(winograd, "aligned_empty", poisoned)
    arrays = drawn(WAYS[way], integers)
    for result, wanted in zip(
        results(Conv2d(Winograd(**sizes)), *arrays), by_torch(*arrays), strict=True
    ):
        assert_equal(result, wanted)
    assert len(rooms) == 3
    for room, margin, size in rooms:
        assert (room[:margin] == CANARY).all()
        assert (room[margin + size :] == CANARY).all()


def test_the_register_tile_of_avx2_gives_exact_results_too():
    operator = Conv2d(Winograd(Avx2()))
    for shapes in WAYS.values():
        arrays = drawn(shapes, integers)
        for result, wanted in zip(results(operator, *arrays), by_torch(*arrays), strict=True):
            assert_equal(result, wanted)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_the_tiles_that_read_them_and_no_other(value):
    x, weight, bias, _ = drawn(BLOCKS, integers)
    x[1, 3, 4, 7] = value
    output = Conv2d(Winograd()).forward(x, weight, bias, padding=1)
    expected = F.conv2d(tensor(x), tensor(weight), tensor(bias), padding=1).numpy()
    assert not np.isfinite(output[~np.isfinite(expected)]).any()
    # Padded by 1, the tile of output rows 2 i and 2 i + 1 reads pixel rows 2 i - 1 to 2 i + 2.
    untouched = np.ones(output.shape, bool)
    untouched[1, :, 2:6, 6:10] = False
    assert_equal(output[untouched], expected[untouched])


def test_nan_in_a_filter_reaches_that_filters_outputs_alone():
    x, weight, bias, _ = drawn(BLOCKS, integers)
    plain = Conv2d(Winograd()).forward(x, weight, bias, padding=1)
    weight[5, 2, 1, 1] = np.nan
    output = Conv2d(Winograd()).forward(x, weight, bias, padding=1)
    assert np.isnan(output[:, 5]).all()
    others = np.arange(len(weight)) != 5
    assert_equal(output[:, others], plain[:, others])


def test_more_padding_than_the_kernel_has_cuts_the_gradient():
    """The input's gradient is then a convolution with negative padding."""
    x, weight, *_ = drawn(BLOCKS, integers)
    grad_output = integers(np.random.default_rng(1), (3, 37, 21, 16), "float32")
    given = tensor(x).requires_grad_()
    output = F.conv2d(given, tensor(weight), padding=(5, 3))
    (expected,) = torch.autograd.grad(output, given, tensor(grad_output))
    grad, *_ = Conv2d(Winograd()).backward(grad_output, x, weight, padding=(5, 3))
    assert_equal(grad, expected.numpy())


@pytest.mark.parametrize(
    ("weight", "arguments", "message"),
    [
        ((4, 4, 1, 3), {}, "winograd does 3 x 3 kernels alone, got 1 x 3"),
        ((4, 4, 5, 5), {"padding": 2}, "winograd does 3 x 3 kernels alone, got 5 x 5"),
        ((4, 4, 3, 3), {"stride": (1, 2)}, r"winograd does stride 1 alone, got \(1, 2\)"),
        ((4, 4, 3, 3), {"dilation": 2}, r"winograd does dilation 1 alone, got \(2, 2\)"),
        ((4, 2, 3, 3), {"groups": 2}, "winograd does one group alone, got 2"),
    ],
)
def test_what_it_does_not_do_is_refused_by_name(weight, arguments, message):
    x, weight = np.ones((1, 4, 8, 8), np.float32), np.ones(weight, np.float32)
    with pytest.raises(NotImplementedError, match=message):
        Conv2d(Winograd()).forward(x, weight, **arguments)
