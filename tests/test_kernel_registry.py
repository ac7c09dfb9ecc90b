"""The operators by name, and the threads on which they run."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
import torch

import kernels
from kernels.registry import OPERATORS
from kernels.threads import most_threads, numba_threads
from tests.kernel_checks import normal, run_python

LEGEND = ["loops", "numpy", "numba", "numba_threads", "winograd", "torch"]


def images(seed=0):
    """input, weight and bias of a convolution."""
    rng = np.random.default_rng(seed)
    return [normal(rng, shape, "float32") for shape in ((3, 7, 9, 8), (21, 7, 3, 3), (21,))]


def python(code, implementation="numba_threads", **variables):
    """What a fresh interpreter prints that knows `convolve`, of `images()`; torch is not loaded.

    The environment names no threading layer unless `variables` do.
    """
    variables.setdefault("NUMBA_THREADING_LAYER", None)
    return run_python(CONVOLVE.format(implementation=implementation) + code, **variables)


CONVOLVE = """
import numba, numpy as np
import kernels

rng = np.random.default_rng(0)
shapes = (3, 7, 9, 8), (21, 7, 3, 3), (21,)
images = [rng.standard_normal(shape).astype("float32") for shape in shapes]

def convolve():
    return kernels.get("conv2d", {implementation!r}).forward(*images).tobytes()

"""


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
    wanted = "conv2d has no implementation 'cuda'; allowed: loops, numpy, .*, torch"
    with pytest.raises(ValueError, match=wanted):
        kernels.get("conv2d", "cuda")


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


def test_several_python_threads_may_call_at_once():
    """Each with its own input and number of threads; started together, ten rounds each."""
    with numba_threads(None):
        if numba.threading_layer() == "workqueue":
            pytest.skip("Numba's work queue may not be entered by two threads; install tbb")
    workers = 4
    expected = [kernels.get("conv2d", "numba").forward(*images(i)) for i in range(workers)]
    start = threading.Barrier(workers)

    def work(i):
        operator = kernels.get("conv2d", "numba_threads", threads=1 + i % most_threads())
        start.wait(timeout=60)
        return [operator.forward(*images(i)).tobytes() for _ in range(10)]

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(work, range(workers)))
    for result, wanted in zip(results, expected, strict=True):
        assert result == [wanted.tobytes()] * 10


FORKED = """
import os, signal
before = convolve()
assert numba.threading_layer() == "tbb", numba.threading_layer()
child = os.fork()
if child == 0:
    signal.alarm(30)  # a pool that the fork broke waits forever
    os._exit(0 if convolve() == before else 1)
_, status = os.waitpid(child, 0)
print("forked", os.waitstatus_to_exitcode(status), convolve() == before)
"""


def tbb_is_installed():
    return (Path(sys.prefix) / "lib" / "libtbb.so.12").exists()


def test_a_child_forked_after_the_first_use_computes_on():
    if not tbb_is_installed():
        pytest.skip("only Numba's layer on TBB outlives a fork; install tbb")
    assert python(FORKED, PYTHONWARNINGS="ignore") == "forked 0 True"


@pytest.mark.parametrize("implementation", ["numba_threads", "winograd"])
def test_the_layer_is_tbb_wherever_it_is_installed(implementation):
    """Whatever of Numba's an operator uses first: the layer is settled by then."""
    code = "convolve(); print(numba.threading_layer())"
    told = python(code, implementation, PYTHONWARNINGS="ignore")
    assert told == ("tbb" if tbb_is_installed() else "omp")


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_a_threading_layer_that_the_environment_names_is_kept(layer):
    code = "import kernels.threads as t; t._choose_layer(); print(numba.config.THREADING_LAYER)"
    assert python(code, NUMBA_THREADING_LAYER=layer) == layer


def test_without_tbb_the_layer_is_openmp():
    code = (
        "import sys, kernels.threads as t\n"
        "sys.modules['numba.np.ufunc.tbbpool'] = None\n"
        "t._choose_layer(); print(numba.config.THREADING_LAYER)"
    )
    assert python(code) == "omp"


def test_with_neither_the_layer_is_the_work_queue():
    code = (
        "import sys\n"
        "sys.modules['numba.np.ufunc.tbbpool'] = sys.modules['numba.np.ufunc.omppool'] = None\n"
        "convolve(); print(numba.threading_layer())"
    )
    assert python(code) == "workqueue"


def test_a_second_start_takes_compiled_code_from_the_cache():
    code = (
        "from kernels.conv2d import loops\n"
        "convolve(); stats = loops._forward.stats\n"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))"
    )
    python(code, "loops")
    assert python(code, "loops") == "1 0"
