"""The host grid means what a GPU means, and sees what a GPU would not forgive."""

from __future__ import annotations

import pytest
import torch

from kernels.gpu import host
from kernels.gpu.device import DeviceError
from kernels.gpu.host import HostGrid

CUDA = """
// y[b] = sum of x[b, :], n at most 256, by 256 threads: each takes the number of another thread.
extern "C" __global__ void sums(const float* x, float* y, long long n)
{
    __shared__ float numbers[256], of_warp[8];
    const int t = threadIdx.x;
    numbers[t] = t < n ? x[blockIdx.x * n + t] : 0.0f;
    __syncthreads();
    float sum = numbers[255 - t];
    for (int mask = 16; mask; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    if (t % 32 == 0) of_warp[t / 32] = sum;
    __syncthreads();
    if (t == 0) {
        for (int warp = 1; warp < 8; warp++) sum += of_warp[warp];
        y[blockIdx.x] = sum;
    }
}

extern "C" __global__ void places(float* y, long long width, float scale)
{
    const long long column = blockIdx.x * blockDim.x + threadIdx.x;
    const long long row = blockIdx.y * blockDim.y + threadIdx.y;
    const long long plane = blockIdx.z * blockDim.z + threadIdx.z;
    const long long rows = gridDim.y * blockDim.y;
    y[(plane * rows + row) * width + column] = scale * (plane * 100 + row * 10 + column);
}
"""
METAL = """
#include <metal_stdlib>
using namespace metal;

kernel void sums(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                 constant long& n [[buffer(2)]], uint t [[thread_position_in_threadgroup]],
                 uint block [[threadgroup_position_in_grid]],
                 uint lane [[thread_index_in_simdgroup]],
                 uint warp [[simdgroup_index_in_threadgroup]])
{
    threadgroup float numbers[256], of_warp[8];
    numbers[t] = t < n ? x[block * n + t] : 0.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float sum = simd_sum(numbers[255 - t]);
    if (lane == 0) of_warp[warp] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t == 0) {
        for (int other = 1; other < 8; other++) sum += of_warp[other];
        y[block] = sum;
    }
}

kernel void places(device float* y [[buffer(0)]], constant long& width [[buffer(1)]],
                   constant float& scale [[buffer(2)]], uint3 at [[thread_position_in_grid]],
                   uint3 size [[threads_per_grid]])
{
    y[(at.z * size.y + at.y) * width + at.x] = scale * (at.z * 100 + at.y * 10 + at.x);
}
"""
SOURCES = {"cuda": CUDA, "metal": METAL}
BARRIERS = {
    "cuda": "__syncthreads();",
    "metal": "threadgroup_barrier(mem_flags::mem_threadgroup);",
}
SUM_THREADS = (256, 1, 1)

each_language = pytest.mark.parametrize("language", SOURCES)


@pytest.fixture
def grid(request, tmp_path):
    """grid(language, sanitizer, old, new): a launch of SOURCES with `old` replaced by `new`."""

    def make(language, sanitizer=None, old="", new=""):
        assert old in SOURCES[language]
        source = tmp_path / f"source{host.ENDINGS[language]}"
        source.write_text(SOURCES[language].replace(old, new, 1) if old else SOURCES[language])
        made = HostGrid(language, request.config.cache.mkdir("host_grid"), sanitizer)
        reason = made.unavailable_reason()
        if reason is not None:
            pytest.skip(reason)

        def launch(kernel, blocks, threads, *arguments):
            made.launch(source, kernel, blocks, threads, arguments)

        return launch

    return make


def line_of(language, text):
    return SOURCES[language][: SOURCES[language].index(text)].count("\n") + 1


def rows(blocks=3, n=200):
    return torch.arange(blocks * n, dtype=torch.float32).reshape(blocks, n), torch.zeros(blocks)


@each_language
@pytest.mark.parametrize("sanitizer", [None, *host.SANITIZERS])
def test_barriers_shared_memory_and_warps_mean_what_they_say(grid, language, sanitizer):
    x, y = rows()
    grid(language, sanitizer)("sums", (3, 1, 1), SUM_THREADS, x, y, 200)
    assert torch.equal(y, x.sum(1))


@each_language
def test_blocks_and_threads_have_three_dimensions(grid, language):
    y = torch.zeros(4, 6, 8)
    grid(language)("places", (2, 3, 4), (4, 2, 1), y, 8, 0.5)
    expected = [[[100 * z + 10 * r + c for c in range(8)] for r in range(6)] for z in range(4)]
    assert torch.equal(y, 0.5 * torch.tensor(expected))


@each_language
def test_a_missing_barrier_shows_in_the_result(grid, language):
    x, y = rows()
    grid(language, None, BARRIERS[language])("sums", (3, 1, 1), SUM_THREADS, x, y, 200)
    assert not torch.equal(y, x.sum(1))


@each_language
def test_a_missing_barrier_is_a_race_at_its_line(grid, language):
    x, y = rows()
    with pytest.raises(DeviceError, match="ThreadSanitizer: data race") as caught:
        grid(language, "thread", BARRIERS[language])("sums", (3, 1, 1), SUM_THREADS, x, y, 200)
    line = line_of(language, "numbers[t] = ")
    assert f"source{host.ENDINGS[language]}:{line}" in str(caught.value)


@each_language
def test_blocks_that_write_to_the_same_place_are_a_race(grid, language):
    place = "y[blockIdx.x]" if language == "cuda" else "y[block]"
    x, y = rows()
    with pytest.raises(DeviceError, match="ThreadSanitizer: data race") as caught:
        grid(language, "thread", place, "y[0]")("sums", (3, 1, 1), SUM_THREADS, x, y, 200)
    assert f"source{host.ENDINGS[language]}:{line_of(language, place)}" in str(caught.value)


@each_language
@pytest.mark.parametrize(
    ("old", "new", "at", "kind"),
    [
        ("numbers[256]", "numbers[255]", "numbers[t] = ", "global-buffer-overflow"),
        ("t < n ?", "t < n + 1 ?", "numbers[t] = ", "heap-buffer-overflow"),
    ],
    ids=["shared", "global"],
)
def test_a_broken_bound_is_found_at_its_line(grid, language, old, new, at, kind):
    x, y = rows()
    with pytest.raises(DeviceError, match=f"AddressSanitizer: {kind}") as caught:
        grid(language, "address", old, new)("sums", (3, 1, 1), SUM_THREADS, x, y, 200)
    assert f"source{host.ENDINGS[language]}:{line_of(language, at)}" in str(caught.value)


@each_language
def test_a_barrier_that_some_threads_skip_ends_the_launch(grid, language):
    skipped = f"if (t < 255) {BARRIERS[language]}"
    x, y = rows()
    with pytest.raises(DeviceError, match=r"not reached by all threads: in block \(0, 0, 0\)"):
        grid(language, None, BARRIERS[language], skipped)("sums", (3, 1, 1), SUM_THREADS, x, y, 200)
    grid(language)("sums", (3, 1, 1), SUM_THREADS, x, y, 200)
    assert torch.equal(y, x.sum(1))  # the next launch is whole again


@each_language
def test_shared_memory_holds_anything_before(grid, language):
    kept = "if (t != 7) numbers[t] = "
    x, y = rows()
    grid(language, None, "numbers[t] = ", kept)("sums", (3, 1, 1), SUM_THREADS, x, y, 200)
    assert torch.isnan(y).all()


@each_language
def test_a_source_that_does_not_compile_says_where(grid, language):
    with pytest.raises(DeviceError, match="could not compile the source") as caught:
        grid(language, None, "float sum = ", "float sum = wrong + ")(
            "sums", (1, 1, 1), SUM_THREADS, *rows(), 200
        )
    line = line_of(language, "float sum = ")
    assert f"source{host.ENDINGS[language]}:{line}" in str(caught.value)
    assert "wrong" in str(caught.value)


@each_language
def test_launches_over_the_limits_are_refused(grid, language):
    launch = grid(language)
    for blocks, threads, message in (
        ((1, 1, 1), (1025, 1, 1), "a block has 1 to 1024 threads, asked for 1025"),
        ((1, 1, 1), (0, 1, 1), "a block has 1 to 1024 threads, asked for 0"),
        ((1, 65536, 1), (32, 1, 1), "a grid has 1 to 65535 blocks along y, asked for 65536"),
        ((0, 1, 1), (32, 1, 1), "blocks along x, asked for 0"),
    ):
        with pytest.raises(ValueError, match=message):
            launch("sums", blocks, threads, *rows(), 200)


@each_language
def test_wrong_names_and_numbers_of_arguments_are_refused(grid, language):
    launch = grid(language)
    with pytest.raises(DeviceError, match="has no kernel 'sum'; it has sums, places"):
        launch("sum", (1, 1, 1), SUM_THREADS, *rows(), 200)
    with pytest.raises(DeviceError, match="sums takes 3 arguments, got 2"):
        launch("sums", (1, 1, 1), SUM_THREADS, *rows())


def test_a_launch_that_does_not_end_is_ended(grid, monkeypatch):
    monkeypatch.setattr(host, "LONGEST", 0.5)
    with pytest.raises(DeviceError, match=r"the program was ended after 0\.5 s"):
        grid("cuda", "address", "float sum = ", "for (volatile int i = 0; i < 1;) {} float sum = ")(
            "sums", (1, 1, 1), SUM_THREADS, *rows(), 200
        )


def test_an_unknown_sanitizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sanitizer must be one of address, thread, got 'memory'"):
        HostGrid("cuda", tmp_path, "memory")
