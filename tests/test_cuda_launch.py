"""What reaches NVIDIA's driver through `cuda.core`, by a double of the driver; no GPU needed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels.gpu.cuda import cubin
from kernels.gpu.operator import FOLDER

HERE = Path(__file__).parent
RELU = FOLDER / "relu" / "relu.cu"
LAUNCHES = """
import sys, threading
from pathlib import Path
from types import SimpleNamespace

import torch
from cuda.core import ObjectCode

from kernels.gpu import cuda
from kernels.gpu.device import DeviceError

class OnCuda(torch.Tensor):
    device = torch.device("cuda", 1)

class Entered:
    def __init__(self, device):
        assert device == torch.device("cuda", 1)
    __enter__ = __exit__ = lambda *_: None

code = ObjectCode.from_cubin(Path(sys.argv[1]).read_bytes())
cuda._reason = lambda: None
cuda._code = lambda source, architecture: {"sm_90": code}[architecture]
torch.cuda.device = Entered
torch.cuda.get_device_capability = lambda device: (9, 0)
stream = SimpleNamespace(cuda_stream=0)
torch.cuda.current_stream = lambda: stream

x = torch.empty(4).as_subclass(OnCuda)
print(f"pointer {x.data_ptr():x}", flush=True)

def launch(threads=(32, 2, 1)):
    cuda.CudaDevice().launch(Path("relu.cu"), "relu_forward", (3, 5, 7), threads, (x, 1 << 40, 0.5))

launch()
stream.cuda_stream = 0xabc
thread = threading.Thread(target=launch)
thread.start()
thread.join()
try:
    launch((1024, 1, 1))
except DeviceError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The lines that LAUNCHES prints, and the driver's double."""
    if importlib.util.find_spec("cuda") is None or torch.version.cuda is None:
        pytest.skip("cuda.core and NVRTC come with a CUDA build of torch")
    if not sys.platform.startswith("linux") or shutil.which("gcc") is None:
        pytest.skip("the double of the driver is for Linux, and needs gcc")
    folder = tmp_path_factory.mktemp("driver")
    binary, library = folder / "relu.cubin", folder / "libcuda.so.1"
    binary.write_bytes(cubin(RELU, "sm_90").code)
    source = HERE / "libcuda_double.c"
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", library, source], check=True)
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHES, binary],
        env=os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(HERE.parent)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_pointers_long_integers_and_floats_arrive_as_the_kernel_has_them(told):
    pointer = told[0].removeprefix("pointer ")
    assert told[1].endswith(f"grid 3 5 7 block 32 2 1 arguments {pointer} {1 << 40} 0.5")


def test_a_launch_is_on_torch_s_stream_in_its_device_s_own_context(told):
    assert told[1].startswith("context 101 stream 0 ")


def test_a_thread_that_has_no_context_gets_the_device_s(told):
    """Autograd's threads are such: CUDA's driver knows no context there."""
    assert told[2].startswith("context 101 stream abc ")


def test_what_the_driver_refuses_is_told_in_its_words(told):
    assert told[4].startswith("relu.cu: relu_forward: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")
