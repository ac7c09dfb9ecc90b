"""On which of Numba's threading layers the operators run, and what each stands."""

from __future__ import annotations

import pytest

from kernels.threads import _layers, _loads, most_threads
from tests.fresh_python import run_python

LAYERS = ["tbb", "omp", "workqueue"]
QUIET = {"PYTHONWARNINGS": "ignore"}  # Python 3.12 warns of a fork among threads


def needs(layer):
    """Skip where the machine lacks the layer's library."""
    if layer != "workqueue" and not _loads(layer):
        pytest.skip(f"Numba finds no library for its layer {layer!r} here")


SEVERAL_CALLERS = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import kernels
from kernels.threads import most_threads
from tests.kernel_inputs import images

expected = [kernels.get("conv2d", "numba").forward(*images(i)).tobytes() for i in range(4)]
start = Barrier(4)

def work(i):
    operator = kernels.get("conv2d", "numba_threads", threads=1 + i % most_threads())
    start.wait(timeout=60)
    return {operator.forward(*images(i)).tobytes() for _ in range(100)}

with ThreadPoolExecutor(4) as pool:
    print([{one} for one in expected] == list(pool.map(work, range(4))))
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_several_python_threads_may_call_at_once(layer):
    """Each with its own input and number of threads; started together, a hundred rounds each."""
    needs(layer)
    assert run_python(SEVERAL_CALLERS, NUMBA_THREADING_LAYER=layer) == "True"


FORKED = """
import os, signal
import numba
import kernels
from kernels.threads import most_threads
from tests.kernel_inputs import images

operators = [kernels.get("conv2d", name) for name in ("numba_threads", "winograd")]

def results():
    return [operator.forward(*images()).tobytes() for operator in operators]

before = results()
child = os.fork()
if child == 0:
    signal.alarm(30)  # a pool that the fork broke waits forever
    print(numba.threading_layer(), most_threads(), flush=True)
    try:
        kernels.get("conv2d", "numba_threads", threads=2).forward(*images())
    except ValueError as error:
        print("refused:", error, flush=True)
    os._exit(0 if results() == before else 1)
_, status = os.waitpid(child, 0)
print("forked", os.waitstatus_to_exitcode(status), results() == before)
"""


@pytest.mark.skipif(most_threads() < 2, reason="one CPU: nothing runs on two threads here")
@pytest.mark.parametrize("layer", ["tbb", "omp"])
def test_a_child_forked_after_the_first_use_computes_on(layer):
    """On TBB with all threads, on OpenMP with the one that is left, and tells who asks for more."""
    needs(layer)
    told = run_python(FORKED, NUMBA_THREADING_LAYER=layer, **QUIET).splitlines()
    most = most_threads() if layer == "tbb" else 1
    assert told[0] == f"{layer} {most}"
    assert told[-1] == "forked 0 True"
    refusals = [line for line in told if line.startswith("refused")]
    assert len(refusals) == (layer == "omp")
    assert all("must be 1 to 1, got 2" in line and "LAYER=tbb" in line for line in refusals)


FIRST_USE = """
import numba
import kernels
from tests.kernel_inputs import images

if {implementation!r} == "none":
    from kernels.threads import current_threads
    current_threads()
else:
    kernels.get("conv2d", {implementation!r}).forward(*images(), padding=1)
print(numba.threading_layer())
"""


@pytest.mark.parametrize("implementation", ["numba_threads", "winograd", "none"])
def test_a_process_alone_takes_openmp_whatever_it_uses_first(implementation):
    needs("omp")
    assert run_python(FIRST_USE.format(implementation=implementation), **QUIET) == "omp"


def test_a_rank_takes_tbb():
    needs("tbb")
    assert run_python(FIRST_USE.format(implementation="numba_threads"), PMI_SIZE="2") == "tbb"


IN_A_POOL = """
import multiprocessing
from kernels.threads import current_threads

def layer():
    import numba
    current_threads()
    return numba.threading_layer()

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.apply(layer))
"""


def test_a_worker_of_a_pool_takes_tbb():
    needs("tbb")
    assert run_python(IN_A_POOL, **QUIET) == "tbb"


@pytest.mark.parametrize("world", [{}, {"PMI_SIZE": "1"}, {"WORLD_SIZE": "many"}])
def test_a_world_of_one_is_alone(world):
    assert _layers(world) == ("omp", "tbb")


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "WORLD_SIZE"])
def test_a_world_of_two_is_known_by_its_launchers_variable(name):
    assert _layers({name: "2"}) == ("tbb", "omp")


@pytest.mark.parametrize("layer", LAYERS)
def test_a_threading_layer_that_the_environment_names_is_kept(layer):
    needs(layer)
    code = FIRST_USE.format(implementation="none")
    assert run_python(code, NUMBA_THREADING_LAYER=layer) == layer


@pytest.mark.parametrize(("missing", "wanted"), [(["omp"], "tbb"), (["omp", "tbb"], "workqueue")])
def test_what_is_missing_is_passed_over(missing, wanted):
    needs(wanted)
    code = "import sys\n" + "".join(
        f"sys.modules['numba.np.ufunc.{layer}pool'] = None\n" for layer in missing
    )
    assert run_python(code + FIRST_USE.format(implementation="numba_threads")) == wanted
