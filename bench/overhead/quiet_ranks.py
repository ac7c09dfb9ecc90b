"""The program of `test_quiet_ranks`: an arm on rank 0 alone, while all other ranks wait.

`quiet_ranks.py asleep|spinning` prints rank 0's seconds of each round. The arm keeps two cores
busy, so that on a machine of two every other process that runs takes from it.
"""

from __future__ import annotations

import hashlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from mpi4py import MPI

from pytest_speedup.collective import World
from pytest_speedup.supervisor import supervise

ROUNDS = 12
DATA = bytes(32 * 2**20)


def arm(pool: ThreadPoolExecutor) -> None:
    """Hash 32 MiB on each of two threads; hashing gives up the interpreter's lock."""
    list(pool.map(lambda data: hashlib.sha256(data).digest(), [DATA, DATA]))


def timed(pool: ThreadPoolExecutor) -> float:
    start = time.perf_counter()
    arm(pool)
    return time.perf_counter() - start


def main(waiting: str) -> None:
    """One world: the arm on rank 0, then every rank at the end of the test."""
    world = World.start(supervise())
    world.agree(None, doing="the begin")
    if world.rank == 0:
        with ThreadPoolExecutor(2) as pool:
            arm(pool)
            rounds = [timed(pool) for _ in range(ROUNDS)]
        sys.stdout.write(" ".join(map(str, rounds)))
        sys.stdout.flush()
    if waiting == "spinning":
        MPI.COMM_WORLD.Barrier()
    world.settle(None, test="quiet_ranks", grace=5, timeout=60)
    world.stop()


if __name__ == "__main__":
    main(sys.argv[1])
