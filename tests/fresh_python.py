"""Code in an interpreter of its own, for what is settled once a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from kernels.threads import WORLD_SIZES

ROOT = Path(__file__).parent.parent
SETTLED = {"NUMBA_THREADING_LAYER", *WORLD_SIZES}
"""What decides the threading layer: taken out, so that each test says what it wants."""


def run_python(code, *arguments, **variables):
    """What a fresh interpreter prints; it may have a lot to compile, but has to end."""
    inherited = {name: value for name, value in os.environ.items() if name not in SETTLED}
    told = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**inherited, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


def assert_worker_ends_with_killed_parent(code):
    """`code` prints the process of its one worker and kills itself."""
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert told.returncode == -signal.SIGKILL
    (pid,) = map(int, told.stdout.split())
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.05)
