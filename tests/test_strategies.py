"""Every strategy gives the serial result, has the threads it promises, and leaves no trace."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from bench.devices import tf32
from bench.inference.forward import in_batches, torch_threads
from bench.inference.shared import share
from bench.inference.test_batched import batched
from bench.inference.test_bfloat16 import bfloat16
from bench.inference.test_channels_last import channels_last
from bench.inference.test_compiled import Compiled, missing_compiler
from bench.inference.test_device import OnDevice
from bench.inference.test_intra_op import intra_op
from bench.inference.test_process_pool import ProcessPool
from bench.inference.test_serial import one_by_one
from bench.inference.test_thread_pool import ThreadPool
from bench.tolerances import reduced_precision, rounding_bound
from bench.workload import prepare
from models import Choice
from tests.fresh_python import assert_worker_ends_with_killed_parent
from tests.worlds import environment, mpirun

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def work():
    return prepare(Choice("lenet", num_inferences=7))


@pytest.fixture(scope="module")
def deeper():
    """Batch norm, residuals and 3 channels, which LeNet has not."""
    return prepare(Choice("resnet18", image_size=32, num_inferences=4))


@pytest.fixture(scope="module")
def pool(work):
    with ProcessPool(work.model, work.images, processes=2) as pool:
        yield pool


@pytest.fixture(autouse=True)
def threads_are_put_back():
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


def bound(work):
    return rounding_bound(work.model, work.images, work.logits)


def within(work, logits):
    error = (logits - work.logits).abs().max()
    return bool(error <= bound(work)(work.logits))


@pytest.mark.parametrize("strategy", [one_by_one, intra_op])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_intra_op_threads_change_nothing_but_rounding(deeper, strategy, threads):
    with strategy(deeper.model, threads) as infer:
        assert torch.get_num_threads() == threads
        assert within(deeper, infer(deeper.images))


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_a_thread_pool_changes_no_bit(work, threads):
    with ThreadPool(work.model, threads) as infer:
        assert torch.equal(infer(work.images), work.logits)


def test_every_worker_of_a_thread_pool_has_one_intra_op_thread(work):
    """By torch's count, which is its own OpenMP's: Numba's may be loaded too, with more."""
    with torch_threads(3), ThreadPool(work.model, 2) as infer:
        assert infer.threads()["torch"] == 1


def test_a_thread_pool_leaves_no_thread(work):
    before = set(sys._current_frames())
    with ThreadPool(work.model, 2) as infer:
        infer(work.images)
    assert set(sys._current_frames()) <= before


def test_threads_that_start_after_a_thread_pool_have_the_default_again(work):
    found = []
    with torch_threads(3):
        with ThreadPool(work.model, 2):
            pass
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
    assert found == [3]


def test_a_process_pool_changes_no_bit(work, pool):
    for processes in (1, 2):
        assert torch.equal(pool.workers(processes)(work.images), work.logits)


def test_a_process_pool_infers_the_images_it_is_given(work, pool):
    assert torch.equal(pool.workers(2)(work.images.flip(0)), work.logits.flip(0))


def test_every_worker_of_a_process_pool_has_one_intra_op_thread(pool):
    assert pool.workers(2).threads()["torch"] == 1
    assert len(set(pool.pids)) == 2


def test_idle_workers_sleep(pool):
    before = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids]
    time.sleep(0.5)
    after = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids]
    assert sum(after) - sum(before) <= 0.1


def call_for(seconds, infer, images):
    """Call again and again: a call may be done before a worker's death is noticed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        infer(images)


def test_a_killed_worker_is_an_error_and_no_process_is_left(work):
    with ProcessPool(work.model, work.images, processes=2) as pool:
        os.kill(pool.pids[0], signal.SIGINT)  # Ctrl-C reaches the workers too; it is not for them
        assert torch.equal(pool.workers(2)(work.images), work.logits)
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(RuntimeError, match="a worker of the process pool died"):
            call_for(20, pool.workers(2), work.images)
    assert not any(psutil.pid_exists(pid) for pid in pool.pids)


def spawned():
    children = psutil.Process().children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def kill_the_last_of(workers):
    """Kill the worker that was spawned last, while it is still importing torch."""
    before = set(spawned())  # other tests' pools
    started = []
    while len(started) < workers:
        time.sleep(0.05)
        started = [pid for pid in spawned() if pid not in before]
    time.sleep(0.3)  # it is handed what it needs to start
    os.kill(max(started), signal.SIGKILL)


def test_a_worker_that_dies_while_the_pool_starts_ends_it_at_once(work):
    killer = threading.Thread(target=kill_the_last_of, args=(2,))
    killer.start()
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="a worker of the process pool died"):
        ProcessPool(work.model, work.images, processes=2).__enter__()
    assert time.monotonic() - start < 60
    killer.join()


def test_workers_end_with_a_parent_that_is_killed():
    code = (
        "import os, signal\n"
        "from bench.inference.test_process_pool import ProcessPool\n"
        "from bench.workload import prepare\n"
        "from models import Choice\n"
        "if __name__ == '__main__':\n"
        "    work = prepare(Choice('lenet', num_inferences=2))\n"
        "    pool = ProcessPool(work.model, work.images, processes=1).__enter__()\n"
        "    print(*pool.pids, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert_worker_ends_with_killed_parent(code)


def test_a_network_that_cannot_be_sent_is_an_error_that_says_why(work):
    class Local(nn.Flatten):
        pass

    with pytest.raises(RuntimeError, match="at the top level of a module"):
        ProcessPool(Local(), work.images, processes=1)


def test_shared_objects_keep_their_tensors_and_share_them():
    layer = nn.Linear(3, 2)
    layer.tied = layer.weight
    layer.register_buffer("count", torch.tensor(5), persistent=False)
    shared = share((layer, torch.zeros(0), {"half": torch.ones(3, dtype=torch.bfloat16)}))
    first, empty, rest = shared.open()
    second, _, _ = shared.open()
    assert first.tied is first.weight
    assert isinstance(first.weight, nn.Parameter)
    assert torch.equal(first.weight, layer.weight)
    assert first.count == 5
    assert empty.shape == (0,)
    assert torch.equal(rest["half"], torch.ones(3, dtype=torch.bfloat16))
    with torch.no_grad():
        first.bias.fill_(7)
    assert second.bias.tolist() == [7, 7]
    assert layer.bias.tolist() != [7, 7]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_batches_change_no_more_than_roundings(deeper, batch_size):
    with batched(deeper.model, 2, batch_size) as infer:
        assert within(deeper, infer(deeper.images))


def test_channels_last_changes_no_more_than_roundings_and_not_the_network(deeper):
    with channels_last(deeper.model, 1) as infer:
        assert within(deeper, infer(deeper.images))
    assert all(p.is_contiguous() for p in deeper.model.parameters())


def test_a_device_changes_no_more_than_roundings_and_tf32_is_put_back(deeper):
    before = torch.backends.cudnn.allow_tf32
    with tf32(False):
        assert not torch.backends.cudnn.allow_tf32
        assert within(deeper, OnDevice(deeper.model, "cpu")(deeper.images))
    assert torch.backends.cudnn.allow_tf32 == before


def test_bfloat16_is_float32_outside_and_coarser_than_roundings(deeper):
    with bfloat16(deeper.model, 1) as infer:
        logits = infer(deeper.images)
    assert not within(deeper, logits)
    facts = reduced_precision(deeper.logits)(logits)
    assert 0 < facts["rms_error"] < 0.7
    assert 0 <= facts["top1"] <= 1


@pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))
def test_the_compiled_network_changes_no_more_than_roundings_and_compiles_once(work):
    compiled = Compiled(work.model)
    with compiled.on(1, work.images) as infer:
        assert within(work, infer(work.images))
        seconds = infer.facts["compile_seconds"]
    with compiled.on(1, work.images) as infer:
        assert infer.facts["compile_seconds"] == seconds
    torch.compiler.reset()


def test_a_machine_without_a_compiler_says_which_it_needs(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    assert "C++ compiler no-such-compiler" in missing_compiler()


def test_the_rounding_bound_finds_wrong_results(deeper):
    swapped = deeper.logits.flip(0)
    assert not within(deeper, swapped)
    nudged = copy.deepcopy(deeper.model)
    with torch.no_grad():
        next(nudged.parameters()).mul_(1.001)
    assert not within(deeper, in_batches(nudged, deeper.images, 1))
    assert bound(deeper)(deeper.logits) < 1e-2 * deeper.logits.std()


def test_the_check_of_reduced_precision_finds_wrong_results(deeper):
    check = reduced_precision(deeper.logits)
    assert check(deeper.logits)["top1"] == 1
    for wrong in (deeper.logits.flip(0), deeper.logits * torch.nan, deeper.logits[:2]):
        with pytest.raises(AssertionError):
            check(wrong)
    with pytest.raises(AssertionError, match=r"wanted torch\.float32"):
        check(deeper.logits.bfloat16())


def test_one_image_alone_has_a_spread_to_be_held_against():
    one = torch.tensor([[1.0, 2.0, 4.0]])
    assert reduced_precision(one)(one)["rms_error"] == 0


def test_ranks_give_the_serial_result_also_where_a_rank_has_no_image():
    asked = "--with-mpi --ranks 1,3 --benchmark-disable --model lenet --num-inferences 2"
    tests = [sys.executable, "-m", "pytest", "bench/inference/test_ranks.py", *asked.split()]
    told = subprocess.run(
        [mpirun(), "-n", "3", *tests],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "3 passed" in told.stdout
