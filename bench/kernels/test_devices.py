"""How fast is each way of computing an operator on a GPU, beside the vendor's own?

    cuda_sequential   one GPU thread: what the other is a speedup of, on the device
    cuda              the `.cu` sources
    triton            the same by Triton, float32 in IEEE's arithmetic; its modes TF32 and bfloat16
    metal_sequential, metal   the `.metal` sources on Apple's GPUs
    torch             cuDNN, cuBLAS and torch's kernels, in the same modes, NCHW and channels-last

A call is many launches in a row, synchronised at its end; `cache` says whether they find their
arguments in the L2 cache (see `device_arms`). TF32 is off but in the arms that are named for it;
`mode` says so to whoever compares devices.
"""

import pytest

from bench.kernels.device_arms import on_device, stated

pytestmark = pytest.mark.speedup(axis="device", serial=False)


@pytest.fixture
def measure(speedup, request, case, cache, mode):
    """Time the arm that the test is named after."""
    arm = request.function.__name__.removeprefix("test_")

    def measured(device):
        with on_device(case, arm, device, cache) as call:
            speedup(call, **stated(case, arm, device, cache), design=call.design)

    return measured


@pytest.mark.gpus("cuda")
def test_cuda_sequential(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda")
def test_cuda(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda")
def test_triton(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda")
def test_triton_tf32(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda")
def test_triton_bf16(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("mps")
def test_metal_sequential(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("mps")
def test_metal(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda", "mps")
def test_torch(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda")
def test_torch_tf32(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda")
def test_torch_bf16(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda", "mps")
def test_torch_channels_last(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda")
def test_torch_tf32_channels_last(measure, case, cache, device):
    measure(device)


@pytest.mark.gpus("cuda")
def test_torch_bf16_channels_last(measure, case, cache, device):
    measure(device)
