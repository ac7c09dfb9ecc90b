"""The fast conv2d's register tiles: of every width, on lesser CPUs, over all pixels and filters."""

from __future__ import annotations

import platform

import numpy as np
import pytest

import kernels
from kernels.conv2d import plans, weight_cuts
from kernels.conv2d.direct import Direct
from kernels.conv2d.operator import Conv2d
from kernels.simd import Avx2, Avx512, Neon, Plain, tile_for
from tests.conv2d_checks import NAMES, assert_exact, draw_call, exact
from tests.fresh_python import run_python
from tests.kernel_checks import Guard, each_memory
from tests.kernel_inputs import integers

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

TILES = {"Avx512": Avx512(), "Avx2": Avx2(), "Neon": Neon(), "Plain": Plain()}
# Columns and pixels that fill no vector, one, two and a bit, and no number of points.
SHAPES = {
    "less than a vector": ((2, 3, 5, 7), (5, 3, 3, 3), {"padding": 1}),
    "a panel and a bit": ((1, 17, 6, 5), (35, 17, 3, 3), {"padding": 1, "stride": 2}),
    "a vector and one": ((3, 33, 3, 3), (17, 33, 1, 1), {}),
    "depthwise": ((2, 37, 7, 6), (37, 1, 3, 2), {"groups": 37, "stride": 2, "padding": 1}),
    "groups of few": ((2, 8, 6, 6), (12, 4, 3, 2), {"groups": 2, "dilation": (1, 2)}),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", TILES)
def test_every_tile_is_exact_wherever_it_runs(tile, shape):
    x, weight, arguments = SHAPES[shape]
    conv = Conv2d(Direct(threaded=False, tile=TILES[tile]))
    assert_exact(conv, draw_call(x, weight, "float32", integers), arguments)


def test_narrow_vectors_of_float64_are_exact():
    x, weight, arguments = SHAPES["a panel and a bit"]
    conv = Conv2d(Direct(threaded=False, tile=Avx2()))
    assert_exact(conv, draw_call(x, weight, "float64", integers), arguments)


@each_memory
@pytest.mark.parametrize("filters", [1, 15, 16, 17, 31, 32, 33, 70])
def test_any_number_of_filters_in_any_memory(filters, memory):
    given = draw_call((2, 19, 5, 4), (filters, 19, 2, 3), "float32", integers, memory)
    assert_exact(kernels.get("conv2d", "numba"), given, {"padding": 1})


@pytest.mark.parametrize("pixels", range(1, 33))
def test_any_number_of_pixels(pixels, monkeypatch):
    guard = Guard(monkeypatch)
    given = draw_call((1, 2, 1, pixels), (33, 2, 1, 1), "float32", integers)
    assert_exact(kernels.get("conv2d", "numba"), given, {})
    guard.check()


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
        for first, rank in weight_cuts.partition(count, points):
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
    given = draw_call((2, 18, 7, 6), (35, 18, 3, 3), "float32", integers)
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
