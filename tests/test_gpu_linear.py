"""linear's GPU sources against torch, thread by thread on the host grid, or on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels.linear import device
from tests.gpu_checks import each_gpu, each_parallel, poisoned
from tests.kernel_checks import about, assert_equal, assert_within
from tests.kernel_inputs import integers, normal
from tests.test_linear import CASES, NAMES, by_torch, drawn

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

each_case = pytest.mark.parametrize("case", CASES)


def check_all(operator, given, exact=None, scales=None):
    """Output and gradients of input, weight, bias, grad_output: equal to torch's, or within."""
    x, weight, bias, grad_output = given
    results = [operator.forward(x, weight, bias)]
    results += [
        each for each in operator.backward(grad_output, x, weight, bias) if each is not None
    ]
    for name, actual, i in zip(("output", *NAMES), results, range(4), strict=False):
        with about(name):
            if scales is None:
                assert_equal(actual, exact[i])
            else:
                assert_within(actual, exact[i], scales[i])


@each_gpu
@each_case
def test_whole_numbers_give_torchs_results_to_the_bit(gpu, implementation, case, monkeypatch):
    poisoned(monkeypatch)
    given = drawn(case, integers, "float32")
    output, grads = by_torch(*given, torch.float32)
    check_all(gpu("linear", implementation), given, [output, *grads])


@each_gpu
@each_case
def test_normal_numbers_round_within_the_bound(gpu, implementation, case, monkeypatch):
    poisoned(monkeypatch)
    given = drawn(case, normal, "float32")
    output, grads = by_torch(*given)
    above, scales = by_torch(
        *(None if array is None else np.asarray(abs(array)) for array in given)
    )
    check_all(gpu("linear", implementation), given, [output, *grads], [above, *scales])


def cut_as(monkeypatch, side, parts=1):
    """Have products cut into squares of that side, the sums into up to so many parts."""

    def cut(m, n, k):
        part = -(-k // parts // 32) * 32 if parts > 1 else k
        blocks = -(-m // side) * -(-n // side)
        return device.Cut(side, blocks, part, -(-k // part))

    monkeypatch.setattr(device, "_cut", cut)
    monkeypatch.setattr(device, "FEW_ROWS", 0)


@each_parallel
@pytest.mark.parametrize("side", device.SIDES)
@pytest.mark.parametrize("sizes", [(131, 133, 37), (132, 136, 44)], ids=str)
@pytest.mark.parametrize("parts", [1, 2])
def test_every_way_of_cutting_gives_the_same(gpu, implementation, side, sizes, parts, monkeypatch):
    """Rows on 16 bytes and not, several blocks, steps and parts, remainders on every side."""
    poisoned(monkeypatch)
    cut_as(monkeypatch, side, parts)
    rng = np.random.default_rng(0)
    n, o, i = sizes
    given = [integers(rng, shape, "float32") for shape in ((n, i), (o, i), (o,), (n, o))]
    output, grads = by_torch(*given, torch.float32)
    check_all(gpu("linear", implementation), given, [output, *grads])


@each_parallel
@pytest.mark.parametrize("rows", range(1, 9))
@pytest.mark.parametrize("inputs", [140, 143])
def test_few_rows_of_any_number_are_taken(gpu, implementation, rows, inputs, monkeypatch):
    poisoned(monkeypatch)
    rng = np.random.default_rng(0)
    given = [integers(rng, shape, "float32") for shape in ((rows, inputs), (67, inputs), (67,))]
    output, _ = by_torch(*given, np.zeros((rows, 67), "float32"), torch.float32)
    assert_equal(gpu("linear", implementation).forward(*given), output)


@each_gpu
def test_memory_that_begins_between_16_bytes_is_taken(gpu, implementation, monkeypatch, rng):
    operator = gpu("linear", implementation)
    room = torch.from_numpy(integers(rng, 3000, "float32")).to(operator.kind)
    for few in (8, 0):
        monkeypatch.setattr(device, "FEW_ROWS", few)
        for begin in (0, 1, 2, 3):
            x, w = room[begin:][:280].reshape(7, 40), room[500 + begin :][:2400].reshape(60, 40)
            assert torch.equal(operator.on_device.forward(x, w), x @ w.T)
            gx, gw, _ = operator.on_device.backward(x.new_ones(7, 60), x, w)
            assert torch.equal(gx, w.sum(0).expand(7, 40))
            assert torch.equal(gw, x.sum(0).expand(60, 40))


@each_gpu
def test_bias_may_be_left_out_and_gradients_too(gpu, implementation):
    given = drawn("few rows", integers, "float32")
    operator = gpu("linear", implementation)
    x, weight, bias, grad_output = given
    assert_equal(
        operator.forward(x, weight), by_torch(x, weight, None, grad_output, torch.float32)[0]
    )
    assert operator.backward(grad_output, x, weight)[2] is None
    every = operator.backward(grad_output, x, weight, bias)
    for wanted in range(3):
        needs = [i == wanted for i in range(3)]
        grads = operator.backward(grad_output, x, weight, bias, needs=needs)
        assert [grad is not None for grad in grads] == needs
        assert_equal(grads[wanted], every[wanted])


@each_gpu
@pytest.mark.parametrize("rows", [3, 70])
def test_nan_and_infinity_travel_as_torchs(gpu, implementation, rows):
    rng = np.random.default_rng(0)
    x, weight = integers(rng, (rows, 37), "float32"), integers(rng, (40, 37), "float32")
    weight[weight == 0] = 1
    x[0, 36], x[1, 0], x[2, 5], weight[39, 36] = np.nan, np.inf, -np.inf, np.inf
    grad_output = integers(rng, (rows, 40), "float32")
    grad_output[1, 3] = np.nan
    output, grads = by_torch(x, weight, None, grad_output, torch.float32)
    check_all(gpu("linear", implementation), (x, weight, None, grad_output), [output, *grads])


@each_gpu
@pytest.mark.parametrize(
    ("given", "weight"), [((0, 3), (5, 3)), ((2, 0), (5, 0)), ((2, 3), (0, 3)), ((0,), (0,))]
)
def test_empty_input_is_torchs(gpu, implementation, given, weight, monkeypatch):
    poisoned(monkeypatch)
    x, w = np.ones(given, "float32"), np.ones(weight, "float32")
    bias = np.full(weight[:-1], 2, "float32")
    above = np.ones(given[:-1] + weight[:-1], "float32")
    output, grads = by_torch(x, w, bias, above, torch.float32)
    check_all(gpu("linear", implementation), (x, w, bias, above), [output, *grads])


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ((4096, 4096, 64), (128, 1024, 64, 1)),
        ((1000, 512, 128), (64, 128, 128, 1)),
        ((128, 1000, 512), (32, 128, 512, 1)),
        ((32, 128, 4096), (32, 4, 128, 32)),
        ((8, 10, 100), (32, 1, 128, 1)),
    ],
)
def test_large_products_are_cut_into_large_squares_and_small_ones_into_parts(sizes, cut):
    assert device._cut(*sizes) == cut


@each_gpu
def test_what_a_kernel_cannot_take_is_refused(gpu, implementation):
    operator = gpu("linear", implementation).on_device
    kind = operator._device.kind
    x, w, b = (torch.zeros(shape, device=kind) for shape in ((2, 3), (5, 3), (5,)))
    with pytest.raises(TypeError, match="weight must be a torch tensor, got NoneType"):
        operator.forward(x, None)
    with pytest.raises(TypeError, match="bias must be float32, got float16"):
        operator.forward(x, w, b.half())
    with pytest.raises(ValueError, match=r"weight must be contiguous, got strides \(1, 5\)"):
        operator.forward(x, w.reshape(3, 5).T)
    with pytest.raises(ValueError, match="input must have 1 or"):
        operator.forward(x[0, 0], w)
    with pytest.raises(ValueError, match=r"weight must have 3 columns.*got shape \(3, 5\)"):
        operator.forward(x, w.reshape(3, 5))
    with pytest.raises(ValueError, match=r"bias must have shape \(5,\), got \(4,\)"):
        operator.forward(x, w, b[:4])
    with pytest.raises(ValueError, match="bias must be None for a weight"):
        operator.forward(x, w[0], b)
    with pytest.raises(ValueError, match=r"grad_output must have shape \(2, 5\), got \(2, 3\)"):
        operator.backward(x, x, w, b)
    with pytest.raises(ValueError, match="needs must be 3 of True and False"):
        operator.backward(x.new_zeros(2, 5), x, w, b, needs=[True])


def every_kernel(operator, rng):
    """All kernels but the larger squares, in small shapes."""
    x, w = (integers(rng, shape, "float32") for shape in ((5, 256), (33, 256)))
    operator.forward(x, w)
    operator.forward(x[:3], np.concatenate([w, w]))
    gy = integers(rng, (35, 33), "float32")
    operator.backward(gy, np.ones((35, 20), "float32"), w[:, :20], gy[0])


def sides(operator, rng):
    """The larger squares."""
    x, w = (normal(rng, shape, "float32") for shape in ((130, 20), (65, 20)))
    for side in (64, 128):
        with pytest.MonkeyPatch.context() as monkeypatch:
            cut_as(monkeypatch, side)
            operator.forward(x, w)


CALLS = [("linear", every_kernel), ("linear", sides)]
"""Together they launch every kernel."""
