"""The figures of a GPU run, read from made-up ones: what is compared with what, and how judged."""

from __future__ import annotations

import json

import pytest

from bench.kernels.cases import CASES, gpu_network_title
from bench.kernels.device_targets import FIRST_LAYER, main, rows
from pytest_speedup.reading import run_from_json
from tests.run_files import arm_json, run_json

DRIFT = (1.0, 1.3, 0.7, 2.0, 1.1, 0.9)
"""How much slower the made-up GPU is in each pass."""
RELU, CONV, STEEP = (
    "relu_resnet18_conv1_b32",
    "conv2d_resnet18_layer1_b32",
    "conv2d_resnet18_layer4_b32",
)


def arm(strategy, case, seconds, cache="cold", launches=1, **more):
    return arm_json(
        f"test_{strategy}[case={case}-device=cuda-cache={cache}]",
        [[seconds * slower] for slower in DRIFT],
        file="bench/kernels/test_devices.py",
        group=CASES[case].title,
        params={"case": case, "device": "cuda", "cache": cache},
        device="cuda:0",
        work=CASES[case].work * launches,
        unit=CASES[case].unit,
        **more,
    )


def told(*arms):
    return {row.name: row for row in rows(run_from_json(run_json(arms), "made_up_cuda"))}


def test_a_share_is_of_the_peak_that_the_arm_states():
    peak = CASES[RELU].work / 1e-4
    found = told(arm("cuda", RELU, 2e-4, peak=peak))["relu cuda, of the copy"]
    assert found.value.low < 0.5 < found.value.high
    assert found.verdict == "MISSED"
    quick = [[1.1e-4]] * 6
    reached = arm("cuda", RELU, 1.0, peak=peak) | {}
    reached["extra_info"]["speedup"]["blocks"] = quick
    assert told(reached)["relu cuda, of the copy"].verdict == "reached"


def test_ratios_are_of_work_per_second_within_a_pass():
    ours, torchs = arm("cuda", RELU, 8e-4, launches=4), arm("torch", RELU, 4e-4, launches=1)
    found = told(ours, torchs)["relu cuda / torch"]
    assert found.value.value == pytest.approx(2.0)
    assert (found.value.low, found.value.high) == pytest.approx((2.0, 2.0))
    assert found.verdict == "reached"


def test_the_faster_of_torch_s_memories_counts_and_the_least_shape_is_named():
    found = told(
        *(arm("triton_tf32", case, 1e-3) for case in (CONV, STEEP)),
        *(arm("torch_tf32", case, 2e-3) for case in (CONV, STEEP)),
        arm("torch_tf32_channels_last", STEEP, 2.5e-4),
        arm("torch", CONV, 1e-6),  # another mode
    )
    mean = found["conv2d triton_tf32 / torch"]
    assert mean.value.value == pytest.approx((2.0 * 0.25) ** 0.5)
    assert mean.verdict == "reached"
    least = found["conv2d triton_tf32 / torch, least shape"]
    assert least.value.value == pytest.approx(0.25)
    assert least.verdict == "MISSED"
    assert CASES[STEEP].title in mean.note


def test_warm_caches_and_small_shapes_meet_no_target():
    small = "max_pool2d_cifar_b32"
    found = told(
        arm("cuda", RELU, 1e-3, cache="warm"),
        arm("torch", RELU, 2e-3, cache="warm"),
        arm("cuda", small, 1e-3),
        arm("torch", small, 2e-3),
    )
    assert found == {}


def test_device_ratios_are_called_so_and_name_the_cpu_s_best():
    title = gpu_network_title("lenet", 32)

    def network(strategy, seconds, device, **more):
        return arm_json(
            f"test_{strategy}[network=lenet-device={device}-batch=32]",
            [[seconds * slower] for slower in DRIFT],
            group=title,
            params={"network": "lenet", "device": device, "batch": 32},
            device=device,
            **more,
        )

    on_cpu = arm_json(
        f"test_torch[case={FIRST_LAYER}-threads=2]",
        [[3e-3 * slower] for slower in DRIFT],
        group=CASES[FIRST_LAYER].title,
        params={"case": FIRST_LAYER, "threads": 2},
        work=CASES[FIRST_LAYER].work,
        unit="FLOP",
        cpus=2,
    )
    found = told(
        arm("cuda_sequential", FIRST_LAYER, 1.0, cache="warm"),
        arm("cuda", FIRST_LAYER, 1e-3, cache="warm"),
        on_cpu,
        network("cuda", 1e-3, "cuda"),
        network("cpu_torch", 4e-3, "cpu", cpus=2),
        network("cpu_numba_threads", 5e-3, "cpu", cpus=2),
    )
    assert found[f"{FIRST_LAYER}: cuda / one GPU thread"].value.value == pytest.approx(1000)
    ratio = found[f"{FIRST_LAYER}: cuda / CPU's best, device ratio"]
    assert ratio.value.value == pytest.approx(3)
    ratio = found[f"{title}: cuda / CPU's best, device ratio"]
    assert (ratio.value.value, ratio.note) == (pytest.approx(4), "cpu_torch, 2 CPUs")
    assert all(row.verdict == "" for row in found.values())


def test_the_table_and_the_exit_code(tmp_path, capsys):
    path = tmp_path / "made_up_cuda.json"
    path.write_text(json.dumps(run_json([arm("cuda", RELU, 1e-3), arm("torch", RELU, 2e-3)])))
    assert main([str(path)]) == 0
    assert "relu cuda / torch  2.00 [2.00, 2.00]" in capsys.readouterr().out
    path.write_text(json.dumps(run_json([arm("cuda", RELU, 2e-3), arm("torch", RELU, 1e-3)])))
    assert main([str(path)]) == 1
    assert "MISSED" in capsys.readouterr().out


def test_a_run_without_a_gpu_is_a_usage_error(tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_json([])))
    assert main([str(path)]) == 4
    assert "python -m bench.kernels.gpu" in capsys.readouterr().err
