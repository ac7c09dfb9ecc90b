"""One implementation of one case as a function without arguments, and what proves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

import kernels
from bench.inference.forward import torch_threads
from bench.kernels.cases import CASES, MOST_FLOP_OF_LOOPS, Case
from bench.kernels.peaks import peak
from bench.kernels.problems import problem_of, torch_call
from kernels.threads import most_threads, numba_threads
from models import InputError

Call = Callable[[], Any]


def implements(implementation: str, case: Case) -> bool:
    """Whether the registry has it."""
    return implementation in kernels.names(case.operator)


@contextmanager
def by_hand(case: str, implementation: str, threads: int) -> Iterator[Call]:
    """An operator of `kernels` on NumPy arrays, the checks of its arguments included.

    Skips the test where the implementation does not do the case, and says why.
    """
    of = CASES[case]
    operator = kernels.get(of.operator, implementation, threads=threads)
    reason = left_out(implementation, of) or operator.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    problem = problem_of(case)

    def forward() -> Any:
        return operator.forward(**problem.arguments)

    def gradient() -> Any:
        return operator.backward(problem.grad_output, **problem.arguments, needs=needs)[place]

    place = 1 if of.gradient == "weight" else 0
    needs = (place == 0, place == 1, False)
    with limited(threads):
        try:
            yield forward if of.gradient is None else gradient
        except NotImplementedError as error:  # an operator's refusal, which says why
            pytest.skip(str(error))


@contextmanager
def by_torch(case: str, threads: int) -> Iterator[Call]:
    """torch itself, without our wrapping: on tensors in the same memory, made beforehand."""
    problem = problem_of(case)
    tensors = {
        name: torch.from_numpy(value)
        for name, value in problem.arguments.items()
        if isinstance(value, np.ndarray)
    }
    grad = None if problem.grad_output is None else torch.from_numpy(problem.grad_output)
    with limited(threads), torch.inference_mode():
        call = torch_call(CASES[case], tensors, grad)
        yield lambda: call().numpy()  # a view, made in less than a microsecond


def left_out(implementation: str, case: Case) -> str | None:
    """Why an arm is not worth its time, or None."""
    if implementation == "loops" and case.unit == "FLOP" and case.work > MOST_FLOP_OF_LOOPS:
        return f"the plain loops take seconds for more than {MOST_FLOP_OF_LOOPS / 1e9:g} GFLOP"
    return None


def stated(case: str, threads: int, *, torchs: bool = False) -> dict[str, Any]:
    """What an arm tells `speedup`: its proof, its work, and what the machine gives.

    `torchs`: whether the result is torch's own, some of whose sums are coarser than ours may be.
    """
    problem, of = problem_of(case), CASES[case]
    return {
        "expected": problem.expected,
        "tolerance": problem.torchs_rounding if torchs else problem.rounding,
        "work": of.work,
        "unit": of.unit,
        "peak": peak(of.unit, threads),
    }


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """At most so many threads in every pool: BLAS and OpenMP, torch's, Numba's."""
    with threadpool_limits(threads), torch_threads(threads), numba_threads(threads):
        yield


def check_threads(asked: tuple[int, ...] | None) -> None:
    """Raise InputError for more threads than Numba can start."""
    most = most_threads()
    if asked and max(asked) > most:
        raise InputError(
            f"--threads {max(asked)}: bench/kernels can have 1 to {most} here; "
            f"set NUMBA_NUM_THREADS={max(asked)} in the environment for more"
        )
