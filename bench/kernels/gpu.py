"""The whole GPU part in one command: measure, save, and print a short table.

    python -m bench.kernels.gpu --device cuda --out cuda.json

Runs the operators (`--shapes all` for every shape), LeNet and ResNet18 whole, a training step of
the CIFAR CNN, and what the CPU has to be compared with; then `bench.kernels.device_targets` on the
saved run. Ends with exit code 3 where there is no such GPU: nothing is measured or saved then.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.devices import GPUS, absence
from bench.kernels import device_targets
from bench.kernels.device_targets import FIRST_LAYER
from bench.sweeps import SHAPES

NO_GPU = 3
TESTS = (
    "bench/kernels/test_devices.py",
    "bench/kernels/test_device_networks.py",
    "bench/training/test_device.py",
)
ON_THE_CPU = (
    f"bench/kernels/test_operators.py::test_numba_threads[case={FIRST_LAYER}-threads={{threads}}]",
    f"bench/kernels/test_operators.py::test_torch[case={FIRST_LAYER}-threads={{threads}}]",
)
"""What a GPU is held against, on as many threads as there are usable CPUs."""


def command(device: str, shapes: str, passes: int, out: Path, threads: int) -> list[str]:
    """The run as one would type it. The CPU's arms are among those of `--shapes all` alone."""
    on_cpu = [each.format(threads=threads) for each in ON_THE_CPU] if shapes == "all" else []
    return [
        *(sys.executable, "-m", "pytest", *TESTS, *on_cpu, "--benchmark-only"),
        *(f"--device={device}", f"--shapes={shapes}", f"--threads={threads}"),
        *(f"--speedup-passes={passes}", f"--benchmark-json={out}"),
    ]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; pytest's exit code where that failed, else that of `device_targets`."""
    asked = _parser().parse_args(arguments)
    reason = absence(asked.device)
    if reason is not None:
        sys.stderr.write(f"gpu: --device {asked.device}: {reason}; nothing was measured\n")
        return NO_GPU
    from pytest_speedup.machine import usable_cpus

    run = command(asked.device, asked.shapes, asked.passes, asked.out, usable_cpus())
    sys.stdout.write(f"$ {' '.join(run)}\n")
    sys.stdout.flush()
    before = _written(asked.out)
    code = _waited_for(subprocess.Popen(run))
    if _written(asked.out) in (before, None):  # what is there is of another run
        return code or 1
    judged = device_targets.main([str(asked.out)])
    return code or judged


def _written(file: Path) -> int | None:
    """When the file was written last; None where there is nothing in it."""
    try:
        told = file.stat()
    except OSError:
        return None
    return told.st_mtime_ns if told.st_size else None


def _waited_for(run: subprocess.Popen[bytes]) -> int:
    """Its exit code. Ctrl-C reaches pytest too, which saves what it has: it is waited for."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return run.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels.gpu",
        description="Measure the operators and networks on a GPU, and print what they reached.",
    )
    parser.add_argument("--device", choices=GPUS, default="cuda", help="which GPU (default: cuda)")
    parser.add_argument(
        "--shapes", choices=SHAPES, default="few", help="how many shapes (default: few)"
    )
    parser.add_argument("--passes", type=int, default=6, help="turns of each arm (default: 6)")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu.json"), help="the saved run (default: gpu.json)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
