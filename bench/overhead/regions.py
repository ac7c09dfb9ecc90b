"""A process that runs a parallel kernel over and over, on the layer that its environment names.

Reads a number of calls from each line of its input, does them, and answers with the sum of their
results; `test_regions` starts it.
"""

from __future__ import annotations

import sys

import numpy as np
from numba import prange

from kernels.compiled import Kernel
from kernels.threads import most_threads

TASKS, STEPS = 8, 1000
"""A task takes about 2 us: a dependent multiply-add after another."""


def _chains(tasks, values):
    for task in prange(tasks):
        value = values[task, 0]
        for _ in range(STEPS):
            value = value * 0.5 + 1.0
        values[task, 0] = value


KERNEL = Kernel(_chains)


def main(threads: int) -> None:
    """Serve until the input ends; more threads than there are, and it ends at once."""
    values = np.ones((TASKS, 8))  # each task's number in a cache line of its own
    for line in sys.stdin:
        for _ in range(int(line)):
            values[:, 0] = 1.0
            KERNEL(True, threads, TASKS, values)
        sys.stdout.write(f"{values[:, 0].sum()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(min(int(sys.argv[1]), most_threads()))
