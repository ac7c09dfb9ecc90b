"""Made-up saved runs, for the tests of all that reads one. No number here was ever measured.

`make_run_json` is a whole run with every kind of arm; `arm_json` and `run_json` build smaller ones.
Everything is a pure function of its arguments, so a test may rely on every number.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

GROUP = "resnet18 16x3x224x224"
IMAGES = 16
SERIAL_SECONDS = 0.8
SERIAL_FRACTION = 0.1
"""Of the thread pool, exactly, up to the usable CPUs; beyond them it gets no faster."""


def steady(seconds: float, passes: int = 5) -> list[list[float]]:
    """Blocks of a machine that gets slower from pass to pass and is otherwise exact."""
    return [[seconds * (1 + number / 10)] * 3 for number in range(passes)]


def arm_json(
    name: str,
    blocks: Sequence[Sequence[float]],
    *,
    file: str = "bench/inference/test_made_up.py",
    group: str | None = GROUP,
    params: Mapping[str, object] | None = None,
    usable_cpus: int = 2,
    **speedup: Any,
) -> dict[str, Any]:
    """One entry of `benchmarks`; `name` is `test_pool[threads=4]`, `speedup` overrides its keys."""
    strategy = name.partition("[")[0].removeprefix("test_")
    cpus = speedup.get("cpus", speedup.get("workers", 1))
    data = [seconds for block in blocks for seconds in block]
    ours = {
        "schema": 1,
        "strategy": strategy,
        "axis": None,
        "workers": 1,
        "base": None,
        "work": IMAGES,
        "unit": "images",
        "scaling": "strong",
        "cpus": cpus,
        "oversubscribed": cpus > usable_cpus,
        "serial": False,
        "blocks": [list(block) for block in blocks],
        "repeat": None,
        "ranks": None,
        "verified": {
            "bitwise": True,
            "max_abs_error": 0.0,
            "tolerance": None,
            "check": False,
            "facts": {},
        },
        "threads": {"torch": 1, "openmp": 1, "blas": 1},
        "device": "cpu",
        "first_call": None,
        "facts": {},
    }
    return {
        "group": group,
        "name": name,
        "fullname": f"{file}::{name}",
        "params": dict(params) if params else None,
        "param": name.partition("[")[2].removesuffix("]") or None,
        "extra_info": {"speedup": ours | speedup},
        "options": {"disable_gc": True, "timer": "perf_counter", "warmup": False},
        "stats": _stats(data),
    }


def run_json(benchmarks: Sequence[Mapping[str, Any]], **speedup: Any) -> dict[str, Any]:
    """What pytest-benchmark saves, around these benchmarks; `speedup` overrides the run's keys."""
    ours = {
        "schema": 1,
        "passes": 5,
        "passes_done": 5,
        "seed": 1,
        "incomplete": None,
        "world_size": 1,
        "not_run": [],
    }
    return {
        "machine_info": {
            "node": "made-up",
            "machine": "imaginary",
            "system": "Linux",
            "python_version": "3.11.7",
            "cpu": {"brand_raw": "Made-up CPU (no real machine)", "count": 2},
            "speedup": {
                "cpu_model": "Made-up CPU (no real machine)",
                "isa": "avx2",
                "usable_cpus": 2,
                "physical_cores": 2,
                "logical_cpus": 2,
                "smt": False,
                "affinity": 2,
                "quota": None,
                "governor": None,
                "load_1min": 0.1,
                "memory_gib": 8.0,
                "python": "3.11.7",
                "gil": "none",
                "build": "made up",
                "versions": {"torch": "2.15.0", "numpy": "2.4.6"},
                "gpus": [],
            },
        },
        "commit_info": {"id": "0" * 40, "branch": "made-up", "dirty": False},
        "benchmarks": [dict(benchmark) for benchmark in benchmarks],
        "datetime": "2000-01-01T00:00:00+00:00",
        "version": "5.2.3",
        "speedup": ours | speedup,
    }


def make_run_json(
    *,
    passes: int = 5,
    rounds: int = 3,
    usable_cpus: int = 2,
    noise: float = 0.01,
    drift: float = 0.3,
    seed: int = 1,
) -> dict[str, Any]:
    """A whole run of one group.

    Every round is its arm's true time, times 1 + `drift` at the end of the session (the same for
    all arms of a pass), times lognormal noise of relative width `noise`; with noise=0 and drift=0
    the truths are exact: serial takes SERIAL_SECONDS, the thread pool follows Amdahl's law.
    """
    chance = random.Random(seed)

    def blocks(seconds: float) -> list[list[float]]:
        slower = [1 + drift * number / max(passes - 1, 1) for number in range(passes)]
        return [
            [seconds * factor * chance.lognormvariate(0, noise) for _ in range(rounds)]
            for factor in slower
        ]

    def arm(name: str, seconds: float, **more: Any) -> dict[str, Any]:
        return arm_json(name, blocks(seconds), usable_cpus=usable_cpus, **more)

    def sweep(
        function: str, axis: str, truths: Mapping[int, float], **more: Any
    ) -> list[dict[str, Any]]:
        base = f"bench/inference/{function}.py::{function}[{axis}={min(truths)}]"
        return [
            arm(
                f"{function}[{axis}={value}]",
                seconds,
                file=f"bench/inference/{function}.py",
                params={axis: value},
                axis=axis,
                workers=1 if axis == "batch_size" else value,
                base=base,
                **more,
            )
            for value, seconds in truths.items()
        ]

    pool = {p: _amdahl_seconds(min(p, usable_cpus)) for p in (1, 2, 4, 8)}
    batched = {1: 0.80, 2: 0.76, 4: 0.72, 8: 0.70}
    ranks = sweep("test_ranks", "ranks", {p: seconds * 1.02 for p, seconds in pool.items()})
    for benchmark in ranks:
        ours = benchmark["extra_info"]["speedup"]
        ours["ranks"] = [
            [_rank_seconds(seconds, ours["workers"]) for seconds in block]
            for block in ours["blocks"]
        ]
    close = {
        "bitwise": False,
        "max_abs_error": 3.1e-6,
        "tolerance": "8 u S",
        "check": False,
        "facts": {},
    }
    reduced = close | {
        "max_abs_error": 0.021,
        "tolerance": "5 %",
        "check": True,
        "facts": {"top1": 0.9375},
    }
    benchmarks = [
        arm(
            "test_serial",
            SERIAL_SECONDS,
            file="bench/inference/test_serial.py",
            serial=True,
            repeat=blocks(SERIAL_SECONDS),
        ),
        *sweep("test_thread_pool", "threads", pool),
        *sweep("test_batched", "batch_size", batched, serial=True, verified=close),
        arm(
            "test_bfloat16",
            0.45,
            file="bench/inference/test_bfloat16.py",
            verified=reduced,
            facts={"dtype": "bfloat16"},
        ),
        arm(
            "test_compiled",
            0.62,
            file="bench/inference/test_compiled.py",
            verified=close,
            first_call=12.5,
            facts={"compile_seconds": 12.1},
        ),
        *(
            arm(
                f"test_device[device={device}]",
                seconds,
                file="bench/inference/test_device.py",
                params={"device": device},
                axis="device",
                device=device,
                verified=close,
            )
            for device, seconds in {"cpu": 0.79, "cuda": 0.02}.items()
        ),
        arm(
            "test_process_pool[processes=2]",
            pool[2] * 1.1,
            file="bench/inference/test_process_pool.py",
            params={"processes": 2},
            axis="processes",
            workers=2,
            base="bench/inference/test_process_pool.py::test_process_pool[processes=1]",
        ),
        *ranks,
    ]
    not_run = [
        {
            "fullname": "bench/inference/test_process_pool.py::test_process_pool[processes=1]",
            "group": GROUP,
            "reason": "AssertionError: result differs from expected: max abs error 0.31",
            "kind": "failed",
        },
        {
            "fullname": "bench/inference/test_device.py::test_device[device=mps]",
            "group": GROUP,
            "reason": "torch has no MPS device on this machine",
            "kind": "skipped",
        },
        {
            "fullname": "bench/loading/test_loader.py::test_workers[workers=4]",
            "group": None,
            "reason": "stopped before its first pass",
            "kind": "interrupted",
        },
    ]
    saved = run_json(
        benchmarks, passes=passes, passes_done=passes, seed=seed, not_run=not_run, world_size=1
    )
    machine = saved["machine_info"]["speedup"]
    for key in ("usable_cpus", "physical_cores", "logical_cpus", "affinity"):
        machine[key] = usable_cpus
    return saved


def _amdahl_seconds(workers: int) -> float:
    return SERIAL_SECONDS * (SERIAL_FRACTION + (1 - SERIAL_FRACTION) / workers)


def _rank_seconds(slowest: float, ranks: int) -> list[float]:
    return [slowest * (1 - 0.02 * (ranks - 1 - rank)) for rank in range(ranks)]


def _stats(data: Sequence[float]) -> dict[str, Any]:
    """The keys of pytest-benchmark's statistics that are of any use to a reader."""
    return {
        "min": min(data, default=0),
        "max": max(data, default=0),
        "mean": statistics.fmean(data) if data else 0,
        "median": statistics.median(data) if data else 0,
        "stddev": statistics.stdev(data) if len(data) > 1 else 0,
        "rounds": len(data),
        "iterations": 1,
        "data": list(data),
    }
