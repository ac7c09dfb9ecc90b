"""Every operator by name, in the order in which legends show them.

Each operator's folder lists its implementations, a line each.
"""

from __future__ import annotations

from typing import Any

from kernels.arrays import integer
from kernels.conv2d import CONV2D
from kernels.operator import Entry

OPERATORS = {
    "conv2d": CONV2D,
}


def operators() -> list[str]:
    """The operators' names."""
    return list(OPERATORS)


def names(operator: str) -> list[str]:
    """An operator's implementations in legend order; raises ValueError for an unknown operator."""
    return list(_entry(operator).algorithms)


def get(operator: str, implementation: str, threads: int | None = None) -> Any:
    """The operator, with `.forward(...)`, `.backward(grad_output, ...)`, `.unavailable_reason()`.

    `threads`: how many a threaded implementation uses, None for all; others take None and 1.
    Raises ValueError for unknown names, and for threads that are not to be had.
    """
    entry = _entry(operator)
    algorithm = entry.algorithms.get(implementation)
    if algorithm is None:
        known = ", ".join(entry.algorithms)
        raise ValueError(f"{operator} has no implementation {implementation!r}; allowed: {known}")
    if threads is not None:
        threads = integer("threads", threads, 1)
        if threads > 1 and not algorithm.threaded:
            raise ValueError(f"{operator} {implementation!r} runs on one thread, got {threads}")
    return entry.operator(algorithm, threads)


def _entry(operator: str) -> Entry:
    entry = OPERATORS.get(operator)
    if entry is None:
        raise ValueError(f"no operator {operator!r}; allowed: {', '.join(OPERATORS)}")
    return entry
