"""What bench/kernels claims of its cases: work, truth, tolerance, and what is asked for by name."""

from __future__ import annotations

import platform
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import kernels
from bench.kernels import arms, peaks
from bench.kernels.cases import CASES, FEW, ON_CPUS, TITLES, selected
from bench.kernels.problems import UNIT, problem_of, torch_call
from bench.sweeps import parse_shapes
from kernels.threads import most_threads
from models import InputError
from pytest_speedup.proof import ProofError, prove, tolerance_of
from tests.fresh_python import run_python

ROOT = Path(__file__).parent.parent
SMALL = (
    "conv2d_lenet_conv1_b32",
    "conv2d_grad_weight_lenet_conv1_b32",
    "linear_resnet18_fc_b8",
    "max_pool2d_cifar_b32",
    "avg_pool2d_lenet_b32",
    "adaptive_avg_pool2d_resnet18_b8",
    "relu_resnet18_layer3_b8",
    "softmax_cifar_b512",
    "log_softmax_cifar_b512",
    "cross_entropy_cifar_b512",
    "batch_norm_inference_resnet18_layer3_b8",
    "batch_norm_training_resnet18_layer3_b8",
    "add_resnet18_layer3_b8",
)
"""A quick one of every kind."""


def on_meta(case):
    """The case's tensors without memory, and that of its gradient's output."""
    tensors = {
        name: torch.empty(shape, device="meta", dtype=torch.int64 if name == "target" else None)
        for name, shape in case.shapes.items()
    }
    forward = torch.empty(case.output, device="meta") if case.gradient else None
    return tensors, forward


def run(*arguments):
    """pytest on the operators' benchmarks, in a process of its own: exit code, output, errors."""
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "bench/kernels", "-q", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return told.returncode, told.stdout, told.stderr


def test_every_case_has_a_name_and_a_title_of_its_own():
    assert len({case.title for case in CASES.values()} | set(TITLES.values())) == len(TITLES)
    assert all(name == case.name and name.isidentifier() for name, case in CASES.items())


def test_the_few_cases_are_some_of_all_and_of_every_kind():
    assert [case.name for case in selected("few")] == list(FEW)
    assert [case.name for case in selected("all")] == list(ON_CPUS)
    assert {CASES[name].unit for name in FEW} == {"FLOP", "B"}


def test_resnet18s_convolutions_are_those_of_torchvision():
    from torchvision.models import resnet18

    found = set()

    def note(layer, inputs, _):
        found.add((tuple(inputs[0].shape[1:]), tuple(layer.weight.shape), layer.stride[0]))

    with torch.device("meta"):
        model = resnet18().eval()
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(note)
        model(torch.empty(1, 3, 224, 224))
    for batch in (1, 8):
        ours = {
            (case.shapes["input"][1:], case.shapes["weight"], case.arguments["stride"])
            for name, case in CASES.items()
            if name.startswith("conv2d_resnet18") and name.endswith(f"_b{batch}")
        }
        assert ours == found


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.unit == "FLOP"])
def test_flop_are_what_torch_counts(name):
    case = CASES[name]
    tensors, grad_output = on_meta(case)
    with FlopCounterMode(display=False) as counter:
        torch_call(case, tensors, grad_output)()
    assert case.work == counter.get_total_flops()


@pytest.mark.parametrize("name", CASES)
def test_the_output_has_the_shape_that_is_counted(name):
    case = CASES[name]
    tensors, grad_output = on_meta(case)
    shape = torch_call(case, tensors, grad_output)().shape
    assert shape == (case.shapes[case.gradient] if case.gradient else case.output)


@pytest.mark.parametrize("name", [name for name in SMALL if CASES[name].unit == "B"])
def test_bytes_are_those_of_all_arrays_that_go_in_and_come_out(name):
    problem = problem_of(name)
    read = sum(each.nbytes for each in problem.arguments.values() if isinstance(each, np.ndarray))
    assert CASES[name].work == read + problem.expected.nbytes


@pytest.mark.parametrize("name", SMALL)
def test_torchs_own_result_passes_and_one_that_is_a_little_off_does_not(name):
    problem = problem_of(name)
    with arms.by_torch(name, threads=1) as call:
        result = call()
    prove(result, problem.expected, tolerance_of(problem.torchs_rounding))
    wrong = problem.expected.copy()
    flat = wrong.reshape(-1)
    worst = int(np.argmax(problem.allowed))
    flat[worst] += 3 * problem.allowed.reshape(-1)[worst] + np.abs(flat[worst]) * 4 * UNIT
    with pytest.raises(ProofError, match=r"1 of .* wrong|the first is the value"):
        prove(wrong, problem.expected, tolerance_of(problem.rounding))


@pytest.mark.parametrize("name", SMALL)
def test_the_result_of_other_input_does_not_pass(name):
    problem = problem_of(name)
    turned = np.roll(problem.expected, 1) if problem.expected.ndim else problem.expected * 1.01
    with pytest.raises(ProofError):
        prove(turned.astype(np.float32), problem.expected, tolerance_of(problem.rounding))


def test_what_only_selects_has_to_be_exact():
    assert not problem_of("relu_resnet18_layer3_b8").allowed.any()
    assert not problem_of("max_pool2d_cifar_b32").allowed.any()


def test_arrays_of_four_dimensions_lie_in_channels_last_memory():
    problem = problem_of("conv2d_grad_weight_lenet_conv1_b32")
    for array in (problem.arguments["weight"], problem.grad_output):
        assert torch.from_numpy(array).is_contiguous(memory_format=torch.channels_last)


def test_the_plain_loops_are_left_out_of_large_convolutions_alone():
    large, small = CASES["conv2d_resnet18_layer1_b8"], CASES["conv2d_resnet18_layer1_b1"]
    assert "seconds for more than 0.4 GFLOP" in (arms.left_out("loops", large) or "")
    assert arms.left_out("loops", small) is None
    assert arms.left_out("numpy", large) is None


def refusing(monkeypatch, error):
    def forward(**_):
        raise error

    operator = SimpleNamespace(forward=forward, unavailable_reason=lambda: None)
    monkeypatch.setattr(kernels, "get", lambda *_, **__: operator)
    with arms.by_hand("softmax_cifar_b512", "winograd", threads=1) as call:
        call()


def test_what_an_implementation_does_not_do_is_skipped_with_its_reason(monkeypatch):
    with pytest.raises(pytest.skip.Exception, match="only 3x3"):
        refusing(monkeypatch, NotImplementedError("only 3x3"))


@pytest.mark.parametrize("error", [NotImplementedError(), ValueError("shape")])
def test_what_is_merely_unfinished_or_wrong_fails(monkeypatch, error):
    with pytest.raises(type(error)):
        refusing(monkeypatch, error)


def test_every_pool_gets_the_arms_threads_and_its_own_back():
    from pytest_speedup.machine import pool_threads

    before = pool_threads()
    with ExitStack() as stack:
        stack.enter_context(arms.limited(1))
        assert set(pool_threads().values()) == {1}
    after = pool_threads()
    assert {name: after[name] for name in before} == before


def test_multiply_adds_do_what_is_counted():
    lanes, chains = peaks.vectors()
    # x -> 0.5 x + 1 ends at 2 wherever it began
    assert peaks._chains(200, 0.5, 1.0) == 2 * lanes * chains
    # and one step from 0, 1, 2, ... is known
    assert peaks._chains(1, 0.5, 1.0) == lanes * sum(0.5 * i + 1 for i in range(chains))


def test_a_copy_copies_all_of_its_share_and_no_more():
    block = peaks.STREAMS * peaks.PAGE
    source, target = (peaks.aligned_empty(3 * block, np.float32) for _ in range(2))
    source[:] = np.arange(3 * block)
    target.fill(-1)
    peaks._copy(source, target, block, 2 * block, peaks.vectors()[0])
    np.testing.assert_array_equal(target[block : 2 * block], source[block : 2 * block])
    assert (target[:block] == -1).all()
    assert (target[2 * block :] == -1).all()


def test_a_peak_counts_all_threads_and_a_copied_byte_twice(monkeypatch):
    monkeypatch.setattr(peaks, "_best", lambda *_: 0.5)
    assert peaks.multiply_adds(3) == pytest.approx(3 * peaks.multiply_adds(1))
    assert peaks.copies(2) == 2 * peaks.COPIED / 0.5


@pytest.mark.parametrize("text", ["", "some", "few,all", "conv2d"])
def test_unknown_shapes_are_refused(text):
    with pytest.raises(InputError, match=f"--shapes must be few or all; got '{text}'"):
        parse_shapes(text)


def test_shapes_are_few_unless_all_are_asked_for():
    assert (parse_shapes(None), parse_shapes("few"), parse_shapes(" all")) == ("few", "few", "all")


def test_more_threads_than_numba_starts_are_refused_with_the_remedy():
    arms.check_threads(None)
    arms.check_threads((1, most_threads()))
    with pytest.raises(InputError, match=r"--threads 999: bench/kernels .* NUMBA_NUM_THREADS=999"):
        arms.check_threads((1, 999))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shapes", "most"), "--shapes must be few or all; got 'most'"),
        (("--threads", f"1,{most_threads() + 1}"), "in the environment for more"),
    ],
)
def test_bad_input_is_a_usage_error_of_one_line(arguments, message):
    code, told, errors = run("--benchmark-disable", *arguments)
    assert code == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in errors.splitlines() if line.strip())
    assert message in line
    assert "Traceback" not in told + errors


def test_all_shapes_and_the_threads_asked_for_are_collected():
    code, told, _ = run("--collect-only", "--shapes", "all", "--threads", "1")
    assert code == 0
    for name in ON_CPUS:
        assert f"test_torch[case={name}-threads=1]" in told
    assert "threads=2]" not in told


FAULTS = """
import resource
import torch
from bench.kernels.conftest import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {keep}:
    keep_freed_memory()
x = torch.ones(6_000_000)
taken = []
for _ in range(11):
    before = faults()
    torch.relu(x)
    taken.append(faults() - before)
print(*sorted(taken))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_torchs_results_take_no_new_pages_where_freed_memory_is_kept():
    kept, given_back = (
        [int(word) for word in run_python(FAULTS.format(keep=keep)).split()]
        for keep in (True, False)
    )
    assert kept[5] < 5 < given_back[-1]  # the median: a call that finds its memory taken is no rule
