"""The operators by name, and the threads on which they run."""

from __future__ import annotations

import sys

import numba
import numpy as np
import pytest
import torch
from numba.core.dispatcher import Dispatcher

import kernels
from kernels.compiled import Kernel
from kernels.registry import OPERATORS
from kernels.threads import most_threads, numba_threads
from tests.fresh_python import run_python
from tests.kernel_inputs import images

LEGEND = ["loops", "numpy", "numba", "numba_threads", "winograd", "torch"]


def test_all_operators_are_there_in_legend_order():
    assert kernels.operators() == [
        "conv2d",
        "linear",
        "max_pool2d",
        "avg_pool2d",
        "adaptive_avg_pool2d",
        "relu",
        "softmax",
        "log_softmax",
        "cross_entropy",
        "batch_norm",
        "add",
    ]


@pytest.mark.parametrize("operator", kernels.operators())
def test_implementations_come_in_legend_order(operator):
    names = kernels.names(operator)
    assert names == [name for name in LEGEND if name in names]
    assert set(LEGEND) - set(names) <= {"winograd"}


def test_winograd_is_a_convolution():
    assert [name for name in kernels.operators() if "winograd" in kernels.names(name)] == ["conv2d"]


@pytest.mark.parametrize("operator", kernels.operators())
def test_every_implementation_says_whether_it_can_run(operator):
    for name in kernels.names(operator):
        reason = kernels.get(operator, name).unavailable_reason()
        assert reason is None or len(reason) > 10


@pytest.mark.parametrize("operator", kernels.operators())
def test_one_thread_can_be_asked_of_every_implementation_and_two_of_the_threaded(operator):
    for name, algorithm in OPERATORS[operator].algorithms.items():
        kernels.get(operator, name, threads=1)
        if algorithm.threaded:
            kernels.get(operator, name, threads=2)
        else:
            with pytest.raises(ValueError, match=f"{operator} '{name}' runs on one thread, got 2"):
                kernels.get(operator, name, threads=2)
    threaded = {name for name, one in OPERATORS[operator].algorithms.items() if one.threaded}
    assert threaded & {"loops", "numpy", "numba"} == set()
    assert {"numba_threads", "torch"} <= threaded


def test_an_unknown_operator_is_refused_with_those_there_are():
    for ask in (kernels.names, lambda name: kernels.get(name, "loops")):
        with pytest.raises(ValueError, match="no operator 'conv3d'; allowed: conv2d, "):
            ask("conv3d")


def test_an_unknown_implementation_is_refused_with_those_there_are():
    wanted = "conv2d has no implementation 'opencl'; allowed: loops, numpy, .*, torch"
    with pytest.raises(ValueError, match=wanted):
        kernels.get("conv2d", "opencl")


@pytest.mark.parametrize(
    ("threads", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)]
)
def test_threads_that_are_no_positive_number_are_refused(threads, error):
    with pytest.raises(error, match="threads must be "):
        kernels.get("conv2d", "numba_threads", threads=threads)


X = np.ones((1, 2, 4, 4), np.float32)
SMALL = {
    "conv2d": (X, X),
    "linear": (X, X[0, 0]),
    "max_pool2d": (X, 2),
    "avg_pool2d": (X, 2),
    "adaptive_avg_pool2d": (X, 2),
    "relu": (X,),
    "softmax": (X, 1),
    "log_softmax": (X, 1),
    "cross_entropy": (X, np.zeros((1, 4, 4), np.int64)),
    "batch_norm": (X, None, None, None, None, True),
    "add": (X, X[:, :, :1, :1]),
}
"""A call of every operator that is done before a second thread would have started."""


@pytest.mark.parametrize("operator", kernels.operators())
def test_more_threads_than_there_are_are_refused_on_small_input_too(operator):
    output = kernels.get(operator, "numba_threads", most_threads()).forward(*SMALL[operator])
    too_many = kernels.get(operator, "numba_threads", most_threads() + 1)
    wanted = f"threads must be 1 to {most_threads()}, got {most_threads() + 1}; set NUMBA"
    with pytest.raises(ValueError, match=wanted):
        too_many.forward(*SMALL[operator])
    with pytest.raises(ValueError, match=wanted):
        too_many.backward(output, *SMALL[operator])


def test_more_threads_than_there_are_are_refused_on_larger_input():
    too_many = kernels.get("conv2d", "numba_threads", most_threads() + 1)
    with pytest.raises(ValueError, match=f"threads must be 1 to {most_threads()}, got"):
        too_many.forward(*images())


def compilations():
    """How many there are of all functions in `kernels`."""
    members = [
        member
        for name, module in sys.modules.items()
        if name.startswith("kernels.")
        for member in vars(module).values()
    ]
    compiled = [member for member in members if isinstance(member, Dispatcher)]
    for kernel in members:
        if isinstance(kernel, Kernel):
            compiled += [kernel._serial, kernel._parallel]
    return sum(len(each.signatures) for each in set(compiled))


@pytest.mark.parametrize("implementation", ["loops", "numba"])
@pytest.mark.parametrize("operator", kernels.operators())
def test_nothing_is_compiled_anew_for_read_only_arrays(operator, implementation):
    made = kernels.get(operator, implementation)
    before = []
    for writeable in (True, False):
        given = [np.copy(a) if isinstance(a, np.ndarray) else a for a in SMALL[operator]]
        grad_output = np.array(made.forward(*given))
        for array in (grad_output, *given):
            if isinstance(array, np.ndarray):
                array.flags.writeable = writeable
        made.forward(*given)
        made.backward(grad_output, *given)
        before.append(compilations())
    assert before[0] == before[1] > 0


def test_an_implementation_whose_library_is_missing_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    reason = kernels.get("conv2d", "torch").unavailable_reason()
    assert reason == "PyTorch is not installed"


def test_the_number_of_threads_holds_inside_and_is_restored():
    with numba_threads(None) as most:
        assert most == most_threads() == numba.get_num_threads()
        with numba_threads(1) as inner:
            assert inner == 1 == numba.get_num_threads()
        assert numba.get_num_threads() == most


def test_the_number_of_threads_is_restored_after_an_error():
    with numba_threads(None) as most:
        with pytest.raises(KeyError), numba_threads(1):
            raise KeyError
        assert numba.get_num_threads() == most


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_a_number_of_threads_that_is_not_to_be_had_is_refused(threads):
    with pytest.raises(ValueError, match=f"threads must be 1 to {most_threads()}, got {threads}"):
        numba_threads(threads).__enter__()


def test_an_operator_leaves_the_number_of_threads_as_it_was():
    with numba_threads(None) as most:
        output = kernels.get("conv2d", "numba_threads", threads=1).forward(*images())
        assert numba.get_num_threads() == most
        kernels.get("conv2d", "numba_threads", threads=1).backward(output, *images())
        assert numba.get_num_threads() == most


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_torch_has_its_own_number_of_threads_again_afterwards(threads):
    before = torch.get_num_threads()
    output = kernels.get("conv2d", "torch", threads).forward(*images())
    assert torch.get_num_threads() == before
    kernels.get("conv2d", "torch", threads).backward(output, *images())
    assert torch.get_num_threads() == before


def test_torch_runs_on_the_threads_asked_for(monkeypatch):
    seen = []
    plain = torch.conv2d

    def conv2d(*arguments):
        seen.append(torch.get_num_threads())
        return plain(*arguments)

    monkeypatch.setattr(torch, "conv2d", conv2d)
    for threads in (1, 2, 3):
        kernels.get("conv2d", "torch", threads).forward(*images())
    assert seen == [1, 2, 3]


def test_a_second_start_takes_compiled_code_from_the_cache():
    code = (
        "import kernels, numba\n"
        "from kernels.conv2d import loops\n"
        "from tests.kernel_inputs import images\n"
        "kernels.get('conv2d', 'loops').forward(*images())\n"
        "stats = loops._forward.stats\n"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))"
    )
    run_python(code)
    assert run_python(code) == "1 0"


NEEDING = {
    "conv2d": ["input", "weight", "bias"],
    "linear": ["input", "weight", "bias"],
    "batch_norm": ["input", "weight", "bias"],
    "add": ["input", "other"],
}


@pytest.mark.parametrize("operator", NEEDING)
@pytest.mark.parametrize("needs", [(True,), (), (True,) * 4, None, True, "yes", "no"])
def test_needs_of_another_kind_than_a_flag_for_each_gradient_are_a_value_error(operator, needs):
    names = NEEDING[operator]
    sides = {"conv2d": (2, 2, 1, 1), "linear": (2, 2), "batch_norm": (2, 2), "add": (2, 2)}
    x = np.ones(sides[operator], np.float32)
    others = {"batch_norm": [np.zeros(2, np.float32), np.ones(2, np.float32)]}
    match = f"needs must be {len(names)} of True and False, for {', '.join(names)}; got"
    with pytest.raises(ValueError, match=match):
        kernels.get(operator, "loops").backward(x, x, *others.get(operator, [x]), needs=needs)
