"""conv2d on any number of threads: the same bits, written whole, and nothing beside them."""

from __future__ import annotations

import pytest

from tests.conv2d_checks import CASES, MARKS, conv2d, drawn
from tests.fresh_python import run_python
from tests.kernel_checks import Guard, by_hand, each_memory, threaded
from tests.kernel_inputs import integers, normal

pytestmark = MARKS


@pytest.mark.parametrize("case", ["3x3, more channels than a vector", "3x3, full vectors"])
@each_memory
@pytest.mark.parametrize("implementation", by_hand("conv2d"))
def test_results_are_written_whole_and_nothing_beside_them(
    implementation, memory, case, monkeypatch
):
    *given, grad_output = drawn(CASES[case], integers, "float32", memory)
    guard = Guard(monkeypatch)
    operator = conv2d(implementation)
    operator.forward(*given, padding=1)
    operator.backward(grad_output, *given, padding=1)
    guard.check()


ON_MORE_THREADS_THAN_CPUS = """
import itertools

import numpy as np

import kernels
from tests.kernel_inputs import laid_out, normal

for (images, filters, arguments), implementation, memory in itertools.product(
    {shapes}, {implementations}, ("contiguous", "channels_last")
):
    rng = np.random.default_rng(0)
    shapes = (images, filters, filters[:1])
    given = [laid_out(normal(rng, shape, "float32"), memory) for shape in shapes]
    results = []
    for threads in (1, 2, 3, 5):
        operator = kernels.get("conv2d", implementation, threads)
        y = operator.forward(*given, **arguments)
        results.append([y, *operator.backward(y, *given, **arguments)])
    for one, *others in zip(*results):
        same = all(one.tobytes() == other.tobytes() for other in others)
        assert same, (implementation, shapes, memory)
print("equal")
"""


SHAPES = [
    ((3, 7, 9, 11), (21, 7, 3, 3), {"padding": 1}),
    ((1, 16, 23, 5), (48, 16, 3, 3), {"padding": 1}),
    ((7, 3, 12, 13), (33, 3, 3, 3), {}),
]


def test_every_number_of_threads_gives_the_same_bits():
    implementations = threaded("conv2d")
    assert {"numba_threads", "winograd"} <= set(implementations)
    code = ON_MORE_THREADS_THAN_CPUS.format(shapes=SHAPES, implementations=implementations)
    assert run_python(code, NUMBA_NUM_THREADS="5") == "equal"


@pytest.mark.parametrize("case", CASES)
def test_the_threaded_result_is_the_one_thread_result(case):
    *given, grad_output = drawn(CASES[case], normal, "float32", "channels_last")
    results = []
    for operator in (conv2d("numba"), conv2d("numba_threads")):
        output = operator.forward(*given, **CASES[case].arguments)
        grads = operator.backward(grad_output, *given, **CASES[case].arguments)
        results.append([output, *grads])
    for one, other in zip(*results, strict=True):
        assert one.tobytes() == other.tobytes()
