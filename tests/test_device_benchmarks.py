"""The GPU's arms on the host grid: proof, turns, names; no time of theirs means anything."""

from __future__ import annotations

import pytest
import torch

from bench.devices import tf32
from bench.kernels import device_arms, device_peaks, gpu
from bench.kernels.cases import CASES, FEW_ON_GPUS, ON_GPUS, selected_on_gpus
from bench.kernels.device_arms import ARMS, Repeated, copies_of, left_out, on_device, stated
from pytest_speedup.proof import ProofError, prove, tolerance_of
from tests.gpu_checks import hosted

SMALL = {
    "conv2d": "conv2d_lenet_conv1_b32",
    "relu": "relu_resnet18_layer3_b8",
    "softmax": "softmax_cifar_b512",
    "cross_entropy": "cross_entropy_cifar_b512",
    "max_pool2d": "max_pool2d_cifar_b32",
    "batch_norm": "batch_norm_training_resnet18_layer3_b8",
}


@pytest.fixture
def on_host(request, monkeypatch):
    """The source implementations run on the host grid, as if "cpu" were a GPU."""
    hosted(request.config, monkeypatch)
    monkeypatch.setattr(device_arms, "device_peak", lambda *_: 1e9)
    monkeypatch.setattr(device_arms, "CALL_SECONDS", 1e-6)
    monkeypatch.setattr(device_arms, "L2_UNKNOWN", 1 << 16)


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("arm", ["cuda", "metal"])
def test_an_arm_computes_what_it_says(on_host, case, arm):
    with on_device(case, arm, "cpu", "cold") as call:
        asked = stated(case, arm, "cpu")
        proof = prove(call(), asked["expected"], tolerance_of(asked["tolerance"]))
        assert proof.max_abs_error is not None
        assert asked["work"] == CASES[case].work
        assert call.repeats >= 2
        with pytest.raises(ProofError):
            prove(call() + 1e-2, asked["expected"], tolerance_of(asked["tolerance"]))


@pytest.mark.parametrize("arm", [name for name, arm in ARMS.items() if arm.implementation is None])
def test_torch_s_arms_are_right_in_their_mode(on_host, arm):
    case = SMALL["conv2d"]
    with on_device(case, arm, "cpu", "warm") as call:
        asked = stated(case, arm, "cpu")
        prove(call(), asked["expected"], tolerance_of(asked["tolerance"]))
    exact = torch.from_numpy(device_arms.problem_of(case).expected)
    if "bf16" in arm:
        assert not torch.equal(call(), exact)


def test_a_design_is_what_was_launched(on_host):
    with on_device(SMALL["relu"], "cuda", "cpu", "warm") as call:
        case = CASES[SMALL["relu"]]
        count = case.bytes // 8
        assert call.design["launches"] == 1
        assert call.design["threads"] == -(-count // 1024) * 256
        assert call.design["bytes"] == case.bytes
        assert call.design["launch_seconds"] > 0
    with on_device(SMALL["conv2d"], "torch", "cpu", "warm") as call:
        case = CASES[SMALL["conv2d"]]
        assert call.design == {"bytes": case.bytes, "flop": case.work}


def test_launches_take_turns_with_the_copies_of_the_arguments():
    taken = []
    calls = [lambda i=i: (taken.append(i), torch.zeros(1))[1] for i in range(3)]
    Repeated(calls, 6, "cpu")()
    assert taken == [0, 1, 2, 0, 1, 2]


def test_cold_arguments_exceed_the_cache_and_warm_ones_are_one():
    case = CASES[SMALL["relu"]]
    assert copies_of(case, "warm", "mps") == 1
    assert copies_of(case, "cold", "mps") * case.bytes >= 2 * device_arms.L2_UNKNOWN
    assert copies_of(CASES["relu_resnet18_conv1_b32"], "cold", "mps") >= 2


@pytest.mark.parametrize(
    ("case", "arm", "reason"),
    [
        ("relu_resnet18_conv1_b32", "torch_tf32", "relu forms no products that TF32 would change"),
        ("relu_resnet18_conv1_b32", "triton", "relu has no implementation 'triton'"),
        ("conv2d_resnet18_layer1_b32", "cuda_sequential", "one thread of a GPU takes seconds"),
        ("softmax_cifar_b512", "torch_channels_last", "channels-last memory is for convolutions"),
    ],
)
def test_what_is_left_out_says_why(case, arm, reason):
    assert reason in left_out(CASES[case], ARMS[arm])


def test_the_few_gpu_cases_are_some_of_all():
    assert [case.name for case in selected_on_gpus("few")] == [
        name for name in ON_GPUS if name in FEW_ON_GPUS
    ]
    assert set(FEW_ON_GPUS) < set(ON_GPUS)
    assert [case.name for case in selected_on_gpus("all")] == list(ON_GPUS)


def test_tf32_is_as_before_afterwards():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with tf32(True):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_a_peak_is_a_rate_that_was_measured(monkeypatch):
    monkeypatch.setattr(device_peaks, "COPIED", 1 << 20)
    monkeypatch.setattr(device_peaks, "SIZE", 64)
    assert 1e7 < device_peaks.copies("cpu") < 1e13
    assert 1e6 < device_peaks.products("cpu", "bfloat16") < 1e15


def test_the_one_command_says_what_it_lacks(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "absence", lambda _: "no CUDA device that torch can use")
    assert gpu.main(["--device", "cuda"]) == gpu.NO_GPU
    told = capsys.readouterr().err
    assert told == ("gpu: --device cuda: no CUDA device that torch can use; nothing was measured\n")


def test_the_one_command_is_pytest_on_all_parts(tmp_path):
    typed = gpu.command("cuda", "all", 6, tmp_path / "out.json", threads=2)
    assert typed[3:6] == list(gpu.TESTS)
    assert "--device=cuda" in typed
    assert any("conv2d_lenet_conv1_b32-threads=2" in word for word in typed)
