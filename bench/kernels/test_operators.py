"""How fast is each way of computing an operator, on one thread and on all?

    loops          the plain nested loops, compiled; one thread
    numpy          vectorised NumPy; one thread
    numba          the fast algorithm; one thread
    numba_threads  the same over several threads
    winograd       conv2d 3x3 with fewer multiplications, over several threads
    torch          PyTorch itself

Everything lies in channels-last memory. What an algorithm makes anew in each call, such as packed
weights, is timed with it, as it is in eager torch. Relative: against the same code on one thread,
and for code that knows but one, against `loops`. Absolute: against the best of all on one thread.
"""

import pytest

from bench.kernels.arms import by_hand, by_torch, stated


@pytest.mark.speedup(serial=False)  # seconds a call: too slow to show the group's noise floor
def test_loops(speedup, case):
    with by_hand(case, "loops", threads=1) as call:
        speedup(call, **stated(case, threads=1))


@pytest.mark.speedup(base="loops")
def test_numpy(speedup, case):
    with by_hand(case, "numpy", threads=1) as call:
        speedup(call, **stated(case, threads=1))


@pytest.mark.speedup(base="loops")
def test_numba(speedup, case):
    with by_hand(case, "numba", threads=1) as call:
        speedup(call, **stated(case, threads=1))


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_numba_threads(speedup, case, threads):
    with by_hand(case, "numba_threads", threads) as call:
        speedup(call, **stated(case, threads))


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_winograd(speedup, case, threads):
    with by_hand(case, "winograd", threads) as call:
        speedup(call, **stated(case, threads))


@pytest.mark.one_and_all
@pytest.mark.speedup(axis="threads")
def test_torch(speedup, case, threads):
    with by_torch(case, threads) as call:
        speedup(call, **stated(case, threads, torchs=True))
