"""A loader's worker that dies, hangs or is interrupted: said soon, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.loading import test_dask, test_pool
from bench.loading.epoch import Epoch
from models import InputError
from tests.loading_cases import LOADERS, make_photos

ROOT = Path(__file__).parent.parent
PROCESSES = [
    "pool_map",
    "dask_processes",
    "dask_distributed",
    "data_loader_2",
]


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos")


def workers():
    """Processes below this one that load."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if "resource_tracker" not in " ".join(p.cmdline())]


def shared_by(processes):
    """Torch's files in shared memory, which bear the number of the process that made them."""
    folder = Path("/dev/shm")
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names for p in processes if name.startswith(f"torch_{p.pid}_")]


def call_for(seconds, load):
    """Load again and again: an epoch may be done before a worker's death is noticed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        load()


def all_end(processes, seconds=20):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


@pytest.mark.parametrize(
    # of a Pool's, one idle worker holds the lock that all others wait for
    ("name", "which"),
    [("pool_map", 0), ("pool_map", 1), *((name, 0) for name in PROCESSES[1:])],
)
def test_a_killed_worker_ends_loading_and_leaves_no_process(photos, name, which):
    before = set(workers())
    with LOADERS[name](photos) as load:
        Epoch(load)()
        started = sorted(set(workers()) - before, key=lambda process: process.pid)
        assert len(started) == 2
        started[which].kill()
        with pytest.raises(
            RuntimeError, match=r"(?i)worker.*(killed|went away|died|exited)"
        ) as caught:
            call_for(60, Epoch(load))
        assert "\n" not in str(caught.value)
    assert all_end(started)
    assert all_end(set(workers()) - before)
    assert shared_by(started) == []


@pytest.mark.parametrize("name", PROCESSES)
def test_a_worker_that_hangs_ends_loading_in_time(photos, name, monkeypatch):
    for module in (test_pool, test_dask):
        monkeypatch.setattr(module, "HUNG_SECONDS", 2)
    before = set(workers())
    with LOADERS[name](photos) as load:
        Epoch(load)()
        started = set(workers()) - before
        if name == "data_loader_2":
            load._loader._iterator._timeout = 2  # not before its workers have imported torch
        photos.files[4].unlink()
        os.mkfifo(photos.files[4])  # to open it is to wait for whoever writes
        with pytest.raises(RuntimeError, match=r"gave nothing for 2 s|timed out after 2 seconds"):
            Epoch(load)()
    assert all_end(started)


LOADING = """
if __name__ == "__main__":  # nothing above: every worker would run it
    import signal
    import sys
    import psutil
    from contextlib import ExitStack
    from pathlib import Path
    from tests.loading_cases import LOADERS, make_photos

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    photos = make_photos(Path(sys.argv[1]))
    with ExitStack() as started:
        loads = [started.enter_context(LOADERS[name](photos)) for name in sys.argv[2:]]
        print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
        while True:
            for load in loads:
                list(load())
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_an_interrupted_or_killed_run(tmp_path, how):
    """Ctrl-C reaches every process of the group; SIGKILL the run alone."""
    script = tmp_path / "loading.py"
    script.write_text(LOADING)
    run = subprocess.Popen(
        [sys.executable, script, tmp_path / "photos", *PROCESSES],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        started = [psutil.Process(int(pid)) for pid in run.stdout.readline().split()]
        assert len(started) >= 8
        time.sleep(0.5)
        if how == signal.SIGINT:
            os.killpg(run.pid, how)
        else:
            run.kill()
        _, said = run.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    assert how == signal.SIGKILL or "KeyboardInterrupt" in said
    assert all_end(started, 30)
    assert shared_by(started) == []


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(test_dask, "START_SECONDS", 1)
    with pytest.raises(
        InputError, match=r"--dask-scheduler tcp://127\.0\.0\.1:9: no scheduler answers"
    ):
        test_dask.cluster_at("tcp://127.0.0.1:9").__enter__()
    with pytest.raises(InputError, match=r"--dask-scheduler nonsense://x: no scheduler answers"):
        test_dask.cluster_at("nonsense://x").__enter__()


def test_a_cluster_takes_another_port_where_one_is_in_use(photos):
    with LOADERS["dask_distributed"](photos), LOADERS["dask_distributed"](photos) as load:
        assert len(Epoch(load)()) == 5
