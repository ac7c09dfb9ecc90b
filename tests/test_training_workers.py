"""Workers that train together: what goes wrong is told, ends in time, and leaves nothing behind."""

from __future__ import annotations

import errno
import gc
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from faulty_trainers import FAULTS, FaultyTrainer
from training_checks import SGD, digit_batches, start

from bench.training.ddp import DdpTrainer
from bench.training.process_group import host_store
from bench.training.settings import Settings
from bench.training.shared_arrays import SharedArrays
from bench.training.trainer import DivergedError, Task
from bench.training.workers import Pool, WorkerError
from models import InputError
from tests.fresh_python import assert_worker_ends_with_killed_parent

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two workers; after a fault it starts others."""
    host_store()  # torch's first one opens a pipe for all of them
    with Pool() as pool:
        yield pool


def trace() -> dict[str, Any]:
    """What a fault could leave behind, of this process."""
    gc.collect()  # what a test before this one left is none of ours
    this = psutil.Process()
    return {
        "ports": {c.laddr for c in this.net_connections("inet") if c.status == psutil.CONN_LISTEN},
        "temporary files": sorted(Path(tempfile.gettempdir()).iterdir()),
        "descriptors": this.num_fds(),
    }


def named_in_memory(pid: int) -> list[str]:
    """Files in RAM that a process has mapped and that still have a name."""
    mapped = {m.path for m in psutil.Process(pid).memory_maps()}
    return [path for path in mapped if path.startswith("/dev/shm/") and Path(path).exists()]


def test_a_team_trains_and_leaves_no_trace(pool, tmp_path, monkeypatch):
    pool.workers(2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = trace()
    with pool.team(2, DdpTrainer, SGD) as team:
        team.load(start())
        assert len(team.train(digit_batches(3, 8))) == 3
        assert team.threads()["torch"] == 1
        for pid in (os.getpid(), *pool.pids):
            assert named_in_memory(pid) == []
    del team
    assert trace() == before


def test_every_team_has_a_port_of_its_own():
    one, other = host_store(), host_store()
    assert one.port != other.port


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve a file")
def test_memory_that_is_full_is_told(monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"4 MB .* fit neither .*\(No space left on device\)"):
        SharedArrays({"weight": ("float32", (1000, 1000))})


def test_shared_arrays_begin_as_zeros_of_their_form():
    forms = {"a": ("float64", (2, 3)), "none": ("float32", (0, 4)), "one": ("int64", ())}
    with SharedArrays(forms) as shared:
        arrays = shared.arrays
    assert {name: (a.dtype.name, a.shape) for name, a in arrays.items()} == forms
    assert not any(array.any() for array in arrays.values())
    arrays["a"][1] = 7
    assert not arrays["one"].any()


def test_weights_are_read_where_they_are_trained(pool):
    with pool.team(2, DdpTrainer, SGD) as team:
        team.load(start())
        weights = team.weights()
        team.train(digit_batches(3, 8))
        assert not np.array_equal(weights["fc2.weight"], start().weights["fc2.weight"])
        np.testing.assert_array_equal(weights["fc2.weight"], team.state().weights["fc2.weight"])


def test_other_batches_are_handed_over_and_the_same_ones_are_not(pool, monkeypatch):
    handed = []
    send = SharedArrays.send
    with pool.team(1, DdpTrainer, SGD) as team:
        monkeypatch.setattr(
            SharedArrays, "send", lambda self, to: (handed.append(self), send(self, to))
        )
        first, second = digit_batches(4, 8)[:2], digit_batches(4, 8)[2:]
        losses = []
        for batches in (first, list(first), second, first):
            team.load(start())
            losses.append(team.train(batches))
    assert len(handed) == 3
    assert losses[0] == losses[1] == losses[3] != losses[2]


def test_workers_ignore_ctrl_c(pool):
    with pool.team(2, DdpTrainer, SGD) as team:
        team.load(start())
        for pid in pool.pids:
            os.kill(pid, signal.SIGINT)
        assert len(team.train(digit_batches(3, 8))) == 3


def test_a_rate_that_diverges_is_told_and_the_workers_stay(pool):
    pids = pool.workers(2) and pool.pids
    wild = Task("cifar_cnn", Settings(lr=1e6))
    with pool.team(2, DdpTrainer, wild) as team:
        team.load(start())
        with pytest.raises(DivergedError, match=r"at step \d+: training diverged with sgd"):
            team.train(digit_batches(50, 8))
    with pool.team(2, DdpTrainer, SGD) as team:
        team.load(start())
        assert len(team.train(digit_batches(3, 8))) == 3
    assert pool.pids == pids


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise", r"rank 1 of 2 \(process \d+\) failed in 'train':(.|\n)*as it was to be"),
        ("kill", r"rank 1 of 2 \(process \d+\) was killed by SIGKILL in the middle of 'train'"),
        ("hang", r"rank 1 of 2 \(process \d+\) did not go on in 'train'"),
    ],
    ids=FAULTS,
)
def test_a_fault_is_told_in_time_and_leaves_nothing_behind(
    pool, fault, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = trace()
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    with pool.team(2, FaultyTrainer, SGD, timeout=6.0, fault=fault) as team:
        team.load(start())
        pids = pool.pids
        began = time.monotonic()
        with pytest.raises(WorkerError, match=told):
            team.train(digit_batches(3, 8))
        assert time.monotonic() - began < 12
        assert pool.pids == []
    del team
    assert not any(psutil.pid_exists(pid) for pid in pids)
    after = {child.pid: child for child in psutil.Process().children(recursive=True)}
    names = [" ".join(after[pid].cmdline()) for pid in after.keys() - children]
    assert [name for name in names if "resource_tracker" not in name] == []
    assert {**trace(), "descriptors": 0} == {**before, "descriptors": 0}


def hang(pool: Pool) -> None:
    """Until the alarm."""
    with pool.team(2, FaultyTrainer, SGD, fault="hang") as team:
        team.load(start())
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        team.train(digit_batches(3, 8))


def test_an_interrupted_parent_ends_the_step(pool):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        pids = pool.workers(2) and pool.pids
        with pytest.raises(KeyboardInterrupt):
            hang(pool)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert pool.pids == []
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_workers_end_with_a_parent_that_is_killed_in_a_step():
    code = (
        "import os, signal, sys, threading\n"
        "sys.path.insert(0, 'tests')\n"
        "from training_checks import SGD, digit_batches, start\n"
        "from faulty_trainers import FAULTS, FaultyTrainer\n"
        "from bench.training.workers import Pool\n"
        "if __name__ == '__main__':\n"
        "    pool = Pool()\n"
        "    team = pool.team(1, FaultyTrainer, SGD, fault='hang').__enter__()\n"
        "    team.load(start())\n"
        "    print(*pool.pids, flush=True)\n"
        "    threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        "    team.train(digit_batches(3, 8))\n"
    )
    assert_worker_ends_with_killed_parent(code)
