"""Every CUDA source compiles for the GPUs of today, and what a GPU cannot do is said in a line."""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch

import kernels
from kernels.gpu import cuda
from kernels.gpu.cuda import CudaDevice, cubin, too_old
from kernels.gpu.device import DeviceError
from kernels.gpu.host import kernels_in
from kernels.gpu.metal import MetalDevice
from kernels.gpu.operator import FOLDER
from kernels.registry import OPERATORS

SOURCES = sorted(FOLDER.rglob("*.cu"))

nvrtc = pytest.mark.skipif(
    importlib.util.find_spec("cuda") is None or torch.version.cuda is None,
    reason="NVRTC comes with cuda.core and a CUDA build of torch",
)


def test_each_operator_on_gpus_has_a_source_in_both_languages():
    on_device = [entry.on_device for entry in OPERATORS.values() if entry.on_device]
    named = {FOLDER / each for made in on_device for each in (made.source, *made.more_sources)}
    assert {path.with_suffix("") for path in SOURCES} == named
    assert {path.with_suffix("") for path in FOLDER.rglob("*.metal")} == named


@nvrtc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_sources_compile_without_a_gpu(source, architecture):
    code = cubin(source, architecture).code
    assert code[:4] == b"\x7fELF"
    names = [kernel.name for kernel in kernels_in(source.read_text(encoding="utf-8"))]
    assert names
    assert all(name.encode() in code for name in names)


@nvrtc
def test_a_source_that_does_not_compile_says_where(tmp_path):
    source = tmp_path / "broken.cu"
    source.write_text('extern "C" __global__ void f(float* y)\n{\n    y[0] = missing;\n}\n')
    with pytest.raises(DeviceError, match=r"NVRTC could not compile broken\.cu") as caught:
        cubin(source, "sm_90")
    assert 'broken.cu(3): error: identifier "missing" is undefined' in str(caught.value)


def test_a_driver_older_than_the_compiler_is_told():
    assert too_old(13000, (13, 2)) is None
    assert too_old(14010, (13, 2)) is None
    assert too_old(12080, (13, 2)) == (
        "the driver is for CUDA 12.8, too old for NVRTC 13.2; update the driver, or install "
        "nvidia-cuda-nvrtc of CUDA 12"
    )


@pytest.fixture
def fresh_reason():
    cuda._reason.cache_clear()
    yield
    cuda._reason.cache_clear()


def test_no_gpu_is_a_reason_that_repeats_torch_s_own(fresh_reason, monkeypatch):
    def warns():
        import warnings

        warnings.warn("The NVIDIA driver on your system is too old.\nMore.", stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", warns)
    assert CudaDevice().unavailable_reason() == (
        "no CUDA device that torch can use: The NVIDIA driver on your system is too old."
    )


def test_a_torch_without_cuda_is_a_reason(fresh_reason, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA" in CudaDevice().unavailable_reason()


def test_a_torch_without_shaders_is_a_reason(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.delattr(torch.mps, "compile_shader")
    assert "has no torch.mps.compile_shader" in MetalDevice().unavailable_reason()


@pytest.mark.parametrize("device", [CudaDevice(), MetalDevice()], ids=["cuda", "metal"])
def test_a_launch_without_a_gpu_says_why(device):
    reason = device.unavailable_reason()
    if reason is None:
        pytest.skip(f"there is a {device.kind} device here")
    source = FOLDER / f"relu/relu{device.ending}"
    x = torch.zeros(4)
    with pytest.raises(DeviceError) as caught:
        device.launch(source, "relu_forward", (1, 1, 1), (32, 1, 1), (x, x, 4))
    assert str(caught.value) == f"{source.name}: relu_forward: {reason}"


@pytest.mark.parametrize("device", [CudaDevice(), MetalDevice()], ids=["cuda", "metal"])
def test_limits_are_checked_before_a_gpu_is_asked(device):
    with pytest.raises(ValueError, match="a block has 1 to 1024 threads, asked for 2048"):
        device.launch(FOLDER / "none", "kernel", (1, 1, 1), (2048, 1, 1), ())


def test_metal_takes_31_arguments():
    with pytest.raises(ValueError, match="Metal takes at most 31 arguments, got 32"):
        MetalDevice().launch(FOLDER / "none", "kernel", (1, 1, 1), (1, 1, 1), [1] * 32)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_kernel_is_there_in_both_languages_and_for_one_thread(source):
    """Of one that ends in a number, its tile's, each language has its own tiles."""
    cuda_s, metal_s = (
        {
            re.sub(r"_\d+$", "", kernel.name): kernel.arguments
            for kernel in kernels_in(path.read_text(encoding="utf-8"))
        }
        for path in (source, source.with_suffix(".metal"))
    )
    assert cuda_s == metal_s
    sequential = {name for name in cuda_s if name.endswith("_sequential")}
    assert sequential


def test_the_registry_has_them_by_name():
    assert kernels.device_names("relu")[:4] == [
        "cuda_sequential", "cuda", "metal_sequential", "metal",
    ]  # fmt: skip
    made = kernels.get("relu", "cuda")
    assert made.unavailable_reason() == CudaDevice().unavailable_reason()
    with pytest.raises(ValueError, match="relu 'cuda' takes no threads, got 2"):
        kernels.get("relu", "cuda", 2)
    with pytest.raises(ValueError, match=r"no implementation 'opencl'; allowed: .*numba.*cuda"):
        kernels.get("relu", "opencl")
