"""The GPU's arms on the host grid: proof, turns, names; no time of theirs means anything."""

from __future__ import annotations

import warnings
import weakref

import pytest
import torch

from bench import devices
from bench.devices import tf32, tried_algorithms, within_memory
from bench.kernels import device_arms, device_peaks, repeated
from bench.kernels.cases import CASES, FEW_ON_GPUS, ON_GPUS, selected_on_gpus
from bench.kernels.conftest import _gpu_cases, _on_gpus
from bench.kernels.device_arms import ARMS, copies_of, left_out, never_cold, on_device, stated
from bench.kernels.repeated import Repeated, launches_of
from pytest_speedup.accelerators import accelerators
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
    monkeypatch.setattr(repeated, "CALL_SECONDS", 1e-6)
    monkeypatch.setattr(device_arms, "L2_UNKNOWN", 1 << 16)


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("arm", ["cuda", "metal"])
def test_an_arm_computes_what_it_says(on_host, case, arm):
    with on_device(case, arm, "cpu", "cold") as call:
        asked = stated(case, arm, "cpu", "cold")
        proof = prove(call(), asked["expected"], tolerance_of(asked["tolerance"]))
        assert proof.max_abs_error is not None
        assert asked["work"] == CASES[case].work
        assert asked["peak"] == 1e9
        assert call.repeats >= 2
        with pytest.raises(ProofError):
            prove(call() + 1e-2, asked["expected"], tolerance_of(asked["tolerance"]))


@pytest.mark.parametrize("arm", [name for name, arm in ARMS.items() if arm.implementation is None])
def test_torch_s_arms_are_right_in_their_mode(on_host, arm):
    case = SMALL["conv2d"]
    with on_device(case, arm, "cpu", "warm") as call:
        asked = stated(case, arm, "cpu", "warm")
        prove(call(), asked["expected"], tolerance_of(asked["tolerance"]))
    exact = torch.from_numpy(device_arms.problem_of(case).expected)
    if "bf16" in arm:
        assert not torch.equal(call(), exact)


def test_launches_take_turns_with_the_copies_of_the_arguments():
    taken = []
    calls = [lambda i=i: (taken.append(i), torch.zeros(1))[1] for i in range(3)]
    Repeated(calls, 6, "cpu")()
    assert taken == [0, 1, 2, 0, 1, 2]


def test_results_take_turns_too():
    alive, most = [], []

    def call():
        result = torch.zeros(1)
        alive.append(weakref.ref(result))
        most.append(sum(each() is not None for each in alive))
        return result

    Repeated([call] * 3, 12, "cpu")()
    assert max(most) == 3
    alive.clear()
    most.clear()
    Repeated([call], 12, "cpu")()
    assert max(most) == 1


def test_a_call_has_every_copy_equally_often(monkeypatch):
    monkeypatch.setattr(repeated, "waited_for", lambda *_: 1e-4)
    assert launches_of([lambda: None] * 3, "cpu") == 39
    assert launches_of([lambda: None] * 100, "cpu") == 100


def test_cold_arguments_exceed_the_cache_and_warm_ones_are_one():
    case = CASES[SMALL["relu"]]
    assert copies_of(case, "warm", "mps") == 1
    assert copies_of(CASES["relu_resnet18_conv1_b32"], "cold", "mps") >= 2
    for name in ON_GPUS:
        case = CASES[name]
        if never_cold(case, ARMS["torch"], "mps") is None:
            assert copies_of(case, "cold", "mps") * case.bytes >= 2 * device_arms.L2_UNKNOWN
        else:
            assert case.bytes < 1 << 18


def test_what_cannot_be_cold_says_why():
    assert "do not fill the L2 cache twice" in never_cold(
        CASES[SMALL["softmax"]], ARMS["metal"], "mps"
    )
    alone = never_cold(CASES[SMALL["conv2d"]], ARMS["cuda_sequential"], "mps")
    assert alone == "one thread of a GPU is timed with warm caches alone"


def test_the_peak_of_memory_is_none_of_the_cache(on_host, monkeypatch):
    monkeypatch.setattr(device_arms, "L2_UNKNOWN", 1 << 30)
    of = {
        (case, cache): stated(SMALL[case], "torch", "cpu", cache)["peak"]
        for case in ("relu", "conv2d")
        for cache in ("cold", "warm")
    }
    assert {key for key, peak in of.items() if peak is None} == {("relu", "warm")}


def test_a_design_is_what_was_launched(on_host):
    case = CASES[SMALL["relu"]]
    with on_device(case.name, "cuda", "cpu", "cold") as call:
        count = case.bytes // 8
        assert call.design["launches"] == 1
        assert call.design["threads"] == -(-count // 1024) * 256
        assert call.design["bytes"] == case.bytes
        assert call.design["launch_seconds"] == device_peaks.launch_seconds("cpu")
    with on_device(SMALL["cross_entropy"], "cuda", "cpu", "warm") as call:
        assert call.design["launches"] == 2
    with on_device(SMALL["conv2d"], "torch", "cpu", "cold") as call:
        case = CASES[SMALL["conv2d"]]
        assert call.design == {"bytes": case.bytes, "flop": case.work}


def test_bytes_that_the_cache_gives_are_not_told_as_memory_s(on_host, monkeypatch):
    monkeypatch.setattr(device_arms, "L2_UNKNOWN", 1 << 30)
    with on_device(SMALL["conv2d"], "torch", "cpu", "warm") as call:
        assert call.design == {"flop": CASES[SMALL["conv2d"]].work}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)\nmore"),
    ],
    ids=["cuda", "mps"],
)
def test_too_little_memory_is_a_skip_in_one_line(error):
    with pytest.raises(pytest.skip.Exception) as told, within_memory():
        raise error
    text = str(told.value)
    assert text.startswith("too little memory on the device: ")
    assert "\n" not in text
    assert "9" in text


def test_a_driver_that_is_too_old_is_a_reason_and_ends_no_session(monkeypatch):
    """torch warns of it, and pytest makes errors of warnings here."""

    def warns():
        warnings.warn("The NVIDIA driver on your system is too old.\nMore.", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", warns)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    assert devices.absence("cuda").endswith("The NVIDIA driver on your system is too old.")
    assert "cuda:0" not in accelerators(None)


def test_another_error_is_none_of_memory():
    with pytest.raises(RuntimeError, match="misaligned address"), within_memory():
        raise RuntimeError("misaligned address")


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


def test_cudnn_chooses_as_before_afterwards():
    before = torch.backends.cudnn.benchmark
    with tried_algorithms():
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before


def test_a_peak_is_a_rate_that_was_measured(monkeypatch):
    monkeypatch.setattr(device_peaks, "COPIED", 1 << 20)
    monkeypatch.setattr(device_peaks, "SIZE", 64)
    assert 1e7 < device_peaks.copies("cpu") < 1e13
    assert 1e6 < device_peaks.products("cpu", "bfloat16") < 1e15


def test_waiting_is_next_to_nothing_of_a_peak_s_round(monkeypatch):
    """A task of 1 ms behind a start and a wait of as much: the rate is the task's."""
    now = [0.0]

    def waited_for(call, device, times=5):
        began = now[0]
        call()
        return now[0] - began + 1e-3

    def task():
        now[0] += 1e-3

    monkeypatch.setattr(device_peaks, "waited_for", waited_for)
    monkeypatch.setattr(device_peaks, "ROUND_SECONDS", 0.1)
    assert device_peaks._best(task, "cpu") == pytest.approx(1e-3, rel=0.03)


def test_a_mode_is_told_so_that_devices_are_compared_in_like_ones():
    for test, arm in ARMS.items():
        assert {mode for *_, mode in _gpu_cases(f"test_{test}", "few")} == {arm.mode.name}


@pytest.mark.parametrize(
    ("asked", "gpu_here", "measured"),
    [
        (None, False, {"cpu": 1, "cuda": 1}),  # each says why it is skipped
        (None, True, {"cpu": 2, "cuda": 2}),
        (("cuda",), True, {"cpu": 2, "cuda": 2}),
        (("cpu",), False, {"cpu": 2}),
        (("cpu",), True, {"cpu": 2}),
    ],
)
def test_the_cpu_stands_beside_a_gpu_or_is_asked_for(monkeypatch, asked, gpu_here, measured):
    there = ("cpu", "cuda") if gpu_here else ("cpu",)
    monkeypatch.setattr(devices, "absence", lambda d: None if d in there else "not here")
    found = [device for device, _ in _on_gpus([(1,), (2,)], ("cpu", "cuda"), asked)]
    assert {device: found.count(device) for device in found} == measured
