"""Real MPI worlds for the tests: a script on several ranks, with a time limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAUNCHERS = ("PMI", "MPI", "HYD", "OMPI", "PRTE", "PYTEST_SPEEDUP_SUPERVISED")
"""Beginnings of variables by which a rank knows its launcher: ours must not reach the new world."""

PREAMBLE = """
import os, sys, time
from pytest_speedup.supervisor import supervise
from pytest_speedup.collective import World
supervised = supervise()
world = World.start(supervised)
TEST = "test_x.py::test_y[ranks=4]"
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


@dataclass(frozen=True)
class Ended:
    """How a world ended."""

    code: int
    out: str
    err: str
    seconds: float
    left: tuple[str, ...]
    """Command lines of processes that outlived the launcher by a second."""


def mpirun() -> str:
    """The launcher: of this environment, else the system's; skips the test where there is none."""
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        pytest.skip("needs mpirun: pip install mpi4py mpich")
    return found


def environment() -> dict[str, str]:
    """This process' environment, for a world of its own."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(LAUNCHERS)}
    path = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    oversubscribe = {
        "OMPI_MCA_rmaps_base_oversubscribe": "true",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    return kept | oversubscribe | {"PYTHONPATH": os.pathsep.join(path)}


def launch(
    ranks: int | None,
    script: Path,
    *arguments: str,
    timeout: float = 40.0,
    interrupt_on: str | None = None,
) -> Ended:
    """Run a script on `ranks` ranks, or without a launcher; kill all of it after `timeout` seconds.

    The launcher gets a SIGINT, as from Ctrl-C, once `interrupt_on` has been written to stdout.
    """
    command = [] if ranks is None else [mpirun(), "-n", str(ranks)]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, sys.executable, str(script), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=script.parent,
        start_new_session=True,
    )
    before = ""
    try:
        if interrupt_on is not None:
            assert process.stdout is not None
            for line in process.stdout:
                before += line
                if interrupt_on in line:
                    process.send_signal(signal.SIGINT)
                    break
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        end(script)
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"the world did not end within {timeout} s\n{out}\n{err}")
    seconds = time.monotonic() - began
    left = leftovers(script)
    end(script)
    return Ended(process.returncode, before + out, err, seconds, tuple(left.values()))


def leftovers(script: Path) -> dict[int, str]:
    """Processes that run `script`, a second after they should have ended: {pid: command line}."""
    deadline = time.monotonic() + 1.0
    while (running := _running(script)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return running


def end(script: Path) -> None:
    """Kill the processes that run `script`, whose path is this test's alone."""
    for pid in _running(script):
        os.kill(pid, signal.SIGKILL)


def _running(script: Path) -> dict[int, str]:
    import psutil

    found = {}
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if str(script) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found[process.pid] = " ".join(words)
    return found
