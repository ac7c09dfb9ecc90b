"""The fast conv2d's own: tiles of every width, how work is cut, lesser CPUs, compiled code kept."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.conv2d import direct, plans, weight_plans
from kernels.conv2d.direct import Direct
from kernels.conv2d.operator import Conv2d
from kernels.simd import Avx2, Avx512, Neon, Plain, tile_for
from kernels.threads import most_threads
from tests.fresh_python import run_python
from tests.kernel_checks import Guard, assert_equal, each_memory, tensor
from tests.kernel_inputs import integers, laid_out, normal

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

TILES = {"Avx512": Avx512(), "Avx2": Avx2(), "Neon": Neon(), "Plain": Plain()}
NAMES = ("input", "weight", "bias")
# Columns and pixels that fill no vector, one, two and a bit, and no number of points.
SHAPES = {
    "less than a vector": ((2, 3, 5, 7), (5, 3, 3, 3), {"padding": 1}),
    "a panel and a bit": ((1, 17, 6, 5), (35, 17, 3, 3), {"padding": 1, "stride": 2}),
    "a vector and one": ((3, 33, 3, 3), (17, 33, 1, 1), {}),
    "depthwise": ((2, 37, 7, 6), (37, 1, 3, 2), {"groups": 37, "stride": 2, "padding": 1}),
    "groups of few": ((2, 8, 6, 6), (12, 4, 3, 2), {"groups": 2, "dilation": (1, 2)}),
}


def arrays(shape, weight, dtype, draw, memory="channels_last"):
    rng = np.random.default_rng(0)
    given = (draw(rng, shape, dtype), draw(rng, weight, dtype), draw(rng, weight[:1], dtype))
    return tuple(laid_out(array, memory) for array in given)


def exact(given, arguments):
    """torch's output, a gradient for it, and what torch makes of that."""
    leaves = [tensor(array.copy()).requires_grad_() for array in given]
    output = F.conv2d(*leaves, **arguments)
    grad = integers(np.random.default_rng(1), tuple(output.shape), given[0].dtype)
    grads = torch.autograd.grad(output, leaves, torch.from_numpy(grad))
    return output.detach().numpy(), grad, [each.numpy() for each in grads]


def assert_exact(conv, given, arguments):
    output, grad, grads = exact(given, arguments)
    assert_equal(conv.forward(*given, **arguments), output)
    ours = conv.backward(grad, *given, **arguments)
    for name, actual, expected in zip(NAMES, ours, grads, strict=True):
        assert actual.shape == expected.shape, name
        np.testing.assert_array_equal(actual, expected, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", TILES)
def test_every_tile_is_exact_wherever_it_runs(tile, shape):
    x, weight, arguments = SHAPES[shape]
    conv = Conv2d(Direct(threaded=False, tile=TILES[tile]))
    assert_exact(conv, arrays(x, weight, "float32", integers), arguments)


def test_narrow_vectors_of_float64_are_exact():
    x, weight, arguments = SHAPES["a panel and a bit"]
    conv = Conv2d(Direct(threaded=False, tile=Avx2()))
    assert_exact(conv, arrays(x, weight, "float64", integers), arguments)


@each_memory
@pytest.mark.parametrize("filters", [1, 15, 16, 17, 31, 32, 33, 70])
def test_any_number_of_filters_in_any_memory(filters, memory):
    given = arrays((2, 19, 5, 4), (filters, 19, 2, 3), "float32", integers, memory)
    assert_exact(kernels.get("conv2d", "numba"), given, {"padding": 1})


@pytest.mark.parametrize("pixels", range(1, 33))
def test_any_number_of_pixels(pixels, monkeypatch):
    guard = Guard(monkeypatch)
    given = arrays((1, 2, 1, pixels), (33, 2, 1, 1), "float32", integers)
    assert_exact(kernels.get("conv2d", "numba"), given, {})
    guard.check()


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
    given = arrays((5, 9, 11, 8), (70, 9, 3, 3), "float32", normal)
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
    monkeypatch.setattr(weight_plans, "PIXELS", pixels)
    with fresh_plans():
        conv = kernels.get("conv2d", "numba_threads")
        assert_exact(conv, arrays(x, weight, "float32", integers), {"padding": 1})


@pytest.mark.parametrize("threads", range(1, most_threads() + 1))
def test_threads_change_no_bit_of_a_gradient(threads):
    given = arrays((4, 20, 17, 13), (40, 20, 3, 3), "float32", normal)
    grad = normal(np.random.default_rng(1), (4, 40, 17, 13), "float32")
    alone = kernels.get("conv2d", "numba").backward(grad, *given, padding=1)
    ours = kernels.get("conv2d", "numba_threads", threads=threads).backward(grad, *given, padding=1)
    for actual, expected in zip(ours, alone, strict=True):
        assert_equal(actual, expected)


@pytest.mark.parametrize("implementation", kernels.names("conv2d"))
def test_relu_at_the_end_keeps_nan_and_infinity(implementation):
    given = [array.copy() for array in arrays((1, 3, 6, 5), (20, 3, 3, 3), "float32", normal)]
    given[0][0, 0, 2, 2] = np.nan
    given[2][:2] = np.inf, -np.inf
    conv = kernels.get("conv2d", implementation)
    if implementation == "winograd":
        given[0][np.isnan(given[0])] = 1  # it spreads a NaN over its tile
    actual = conv.forward(*given, padding=1, relu=True)
    expected = F.relu(tensor(conv.forward(*given, padding=1))).numpy()
    assert np.isnan(expected).any() == np.isnan(given[0]).any()
    assert_equal(actual, expected)


@pytest.mark.parametrize(
    ("features", "triple", "tile"),
    [
        ("+avx512f,+avx2,+fma", "x86_64-linux", Avx512),
        ("-avx512f,+avx2,+fma", "x86_64-linux", Avx2),
        ("+avx2,-fma", "x86_64-linux", Plain),
        ("+sse2", "x86_64-windows", Plain),
        ("+neon", "aarch64-linux", Neon),
        ("+neon", "arm64-apple-darwin", Neon),
    ],
)
def test_features_choose_the_tile(features, triple, tile):
    assert type(tile_for(set(features.split(",")), triple)) is tile


@pytest.mark.parametrize("points", [tile.points for tile in TILES.values()])
def test_tiles_cover_every_pixel_within_the_block(points):
    for pixels in range(1, 200):
        covered = np.zeros(pixels, int)
        for first, rank in plans.cover(pixels, points):
            assert 0 <= first <= first + points[rank] <= pixels
            covered[first : first + points[rank]] += 1
        assert covered.all()


@pytest.mark.parametrize("points", [tile.points for tile in TILES.values()])
def test_tiles_of_a_sum_cover_each_point_once(points):
    for count in range(1, 200):
        covered = np.zeros(count, int)
        for first, rank in weight_plans.partition(count, points):
            covered[first : first + points[rank]] += 1
        assert (covered == 1).all()


LESSER = """
import sys
import numpy as np
import kernels
from kernels.conv2d import blocked, weight_gradient
from kernels.simd import host_tile

given = np.load(sys.argv[1])
names = "input", "weight", "bias"
conv = kernels.get("conv2d", "numba")
call = [given[name] for name in names]
output = conv.forward(*call, padding=1)
grads = conv.backward(given["grad"], *call, padding=1)
assert np.array_equal(output, given["output"])
for name, grad in zip(names, grads):
    assert np.array_equal(grad, given["grad_" + name]), name
serial = [module._KERNEL._serial for module in (blocked, weight_gradient)]
code = [text for kernel in serial for text in kernel.inspect_asm().values()]
wide = [register for register in ("zmm", "ymm") if any(register in text for text in code)]
hits, misses = (sum(sum(getattr(k.stats, name).values()) for k in serial)
                for name in ("cache_hits", "cache_misses"))
print(type(host_tile()).__name__, *wide, hits, misses)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="haswell is an x86 CPU")
def test_compiled_for_a_lesser_cpu_and_read_from_disk_by_the_next_process(tmp_path):
    given = arrays((2, 18, 7, 6), (35, 18, 3, 3), "float32", integers)
    output, grad, grads = exact(given, {"padding": 1})
    np.savez(
        tmp_path / "case.npz",
        **dict(zip(NAMES, given, strict=True)),
        **{f"grad_{name}": each for name, each in zip(NAMES, grads, strict=True)},
        output=output,
        grad=grad,
    )
    environment = {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+lzcnt,+popcnt,+sse4.2",
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }
    told = [run_python(LESSER, str(tmp_path / "case.npz"), **environment) for _ in range(2)]
    assert [each.split() for each in told] == [
        ["Avx2", "ymm", "0", "2"],
        ["Avx2", "2", "0"],  # what comes from disk brings no assembly
    ]


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
def test_gradient_of_a_read_only_input_is_exact_whether_packed_or_not(channels, filters):
    given = arrays((3, channels, 9, 11), (filters, channels, 3, 3), "float32", integers)
    grad = integers(np.random.default_rng(1), (3, filters, 9, 11), "float32")
    results = []
    for writeable in (True, False):
        for array in (*given, grad):
            array.setflags(write=writeable)
        conv = kernels.get("conv2d", "numba_threads")
        results.append(conv.backward(grad, *given, padding=1)[1])
    expected = torch.nn.grad.conv2d_weight(
        tensor(given[0].copy()), given[1].shape, tensor(grad.copy()), padding=1
    )
    for actual in results:
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
    assert_exact(conv, arrays(x, weight, "float32", integers), arguments)


def test_what_is_kept_of_a_call_lets_no_wrong_one_pass():
    """True equals 1, and is refused after a call with 1 all the same; so is what failed before."""
    given = arrays((1, 3, 6, 5), (4, 3, 3, 3), "float32", integers)
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
    given = arrays((2, 3, 1, 1), (4, 3, 1, 1), "float32", integers)
    assert_exact(kernels.get("conv2d", "numba"), given, {"stride": 2, "padding": 1})
