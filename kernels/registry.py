"""Every operator by name, in the order in which legends show them.

Each operator's folder lists its implementations, a line each.
"""

from __future__ import annotations

from typing import Any

from kernels.adaptive_avg_pool2d import ADAPTIVE_AVG_POOL2D
from kernels.add import ADD
from kernels.arrays import integer
from kernels.avg_pool2d import AVG_POOL2D
from kernels.batch_norm import BATCH_NORM
from kernels.conv2d import CONV2D
from kernels.cross_entropy import CROSS_ENTROPY
from kernels.gpu.implementations import IMPLEMENTATIONS
from kernels.linear import LINEAR
from kernels.log_softmax import LOG_SOFTMAX
from kernels.max_pool2d import MAX_POOL2D
from kernels.operator import Entry
from kernels.relu import RELU
from kernels.softmax import SOFTMAX

OPERATORS = {
    "conv2d": CONV2D,
    "linear": LINEAR,
    "max_pool2d": MAX_POOL2D,
    "avg_pool2d": AVG_POOL2D,
    "adaptive_avg_pool2d": ADAPTIVE_AVG_POOL2D,
    "relu": RELU,
    "softmax": SOFTMAX,
    "log_softmax": LOG_SOFTMAX,
    "cross_entropy": CROSS_ENTROPY,
    "batch_norm": BATCH_NORM,
    "add": ADD,
}


def operators() -> list[str]:
    """The operators' names."""
    return list(OPERATORS)


def names(operator: str) -> list[str]:
    """An operator's implementations on the CPU in legend order, which take NumPy arrays.

    Raises ValueError for an unknown operator.
    """
    return list(_entry(operator).algorithms)


def device_names(operator: str) -> list[str]:
    """An operator's implementations on GPUs in legend order, which take torch tensors there.

    Raises ValueError for an unknown operator.
    """
    entry = _entry(operator)
    return [name for name, chosen in IMPLEMENTATIONS.items() if chosen.has(entry)]


def get(operator: str, implementation: str, threads: int | None = None) -> Any:
    """The operator, with `.forward(...)`, `.backward(grad_output, ...)`, `.unavailable_reason()`.

    `operators()`, `names(operator)` and `device_names(operator)` list what there is;
    `help(get(...))` tells the arguments. `threads`: how many a threaded implementation uses, None
    for all; others take None and 1.
    Raises ValueError for unknown names, and for several threads of an implementation that has one;
    more than Numba can start are refused by the call that would need them.
    """
    entry = _entry(operator)
    if implementation in device_names(operator):
        if threads not in (None, 1):
            raise ValueError(f"{operator} {implementation!r} takes no threads, got {threads}")
        return IMPLEMENTATIONS[implementation].made(entry)
    algorithm = entry.algorithms.get(implementation)
    if algorithm is None:
        known = ", ".join((*names(operator), *device_names(operator)))
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
