"""Every kernel of every GPU source under AddressSanitizer and ThreadSanitizer, thread by thread.

The calls are those that each operator's tests list as `CALLS`: together they launch every kernel,
which is held here too.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from kernels.gpu import host
from kernels.gpu.device import DeviceError
from kernels.gpu.host import ENDINGS, HostGrid, kernels_in
from kernels.gpu.implementations import IMPLEMENTATIONS
from kernels.gpu.operator import FOLDER
from kernels.registry import OPERATORS
from tests.gpu_checks import NAMES, OnArrays

CALLS = [
    call
    for file in sorted(Path(__file__).parent.glob("test_gpu_*.py"))
    for call in getattr(importlib.import_module(f"tests.{file.stem}"), "CALLS", ())
    if file.stem != Path(__file__).stem
]
"""(operator, what calls it, given the operator on arrays and random numbers)."""
WITH_BARRIER = "linear"
"""An operator whose kernels have barriers and shared memory."""


class Recorder:
    """A device that notes which kernels were launched, and may take a changed source for one."""

    def __init__(self, device, changed):
        self._device = device
        self._changed = changed
        self.kind, self.ending = device.kind, device.ending
        self.launched = set()

    def launch(self, source, kernel, *rest):
        self.launched.add((source, kernel))
        self._device.launch(self._changed.get(source, source), kernel, *rest)


@pytest.fixture
def run(request):
    """run(language, sanitizer, ...): makes the calls in both variants; what was launched."""

    def made(language, sanitizer, only=None, changed=None):
        grid = HostGrid(language, request.config.cache.mkdir("host_grid"), sanitizer)
        reason = grid.unavailable_reason()
        if reason is not None:
            pytest.skip(reason)
        recorder = Recorder(grid, changed or {})
        for name in NAMES:
            if IMPLEMENTATIONS[name].language != language:
                continue
            for operator, call in CALLS:
                if only in (None, operator):
                    sequential = IMPLEMENTATIONS[name].sequential
                    on_device = OPERATORS[operator].on_device(recorder, sequential=sequential)
                    call(OnArrays(on_device), np.random.default_rng(0))
        return recorder.launched

    return made


@pytest.mark.parametrize("operator", sorted({operator for operator, _ in CALLS}))
@pytest.mark.parametrize("language", ENDINGS)
@pytest.mark.parametrize("sanitizer", host.SANITIZERS)
def test_kernels_are_clean(run, operator, language, sanitizer):
    run(language, sanitizer, operator)


@pytest.mark.parametrize("language", ENDINGS)
def test_the_calls_launch_every_kernel(run, language):
    there = {
        (source, kernel.name)
        for source in FOLDER.rglob(f"*{ENDINGS[language]}")
        for kernel in kernels_in(source.read_text(encoding="utf-8"))
    }
    assert run(language, None) == there
    assert {operator for operator, _ in CALLS} == {
        name for name, entry in OPERATORS.items() if entry.on_device
    }


BARRIER = {
    "cuda": ("__syncthreads();", ""),
    "metal": ("threadgroup_barrier(mem_flags::mem_threadgroup);", ""),
}
BOUND = {
    "cuda": ("if (line >= lines || at >= end) return v;", "if (at >= end) return v;"),
    "metal": ("r < rows && d < end ?", "d < end ?"),
}


def broken(tmp_path, language, old, new):
    """A copy of an operator's source with the first `old` replaced."""
    source = FOLDER / f"{WITH_BARRIER}/{WITH_BARRIER}{ENDINGS[language]}"
    text = source.read_text(encoding="utf-8")
    assert old in text
    copied = tmp_path / source.name
    copied.write_text(text.replace(old, new, 1), encoding="utf-8")
    return {source: copied}


@pytest.mark.parametrize("language", ENDINGS)
def test_a_barrier_that_is_deleted_is_found_in_the_kernel(run, language, tmp_path):
    changed = broken(tmp_path, language, *BARRIER[language])
    with pytest.raises(DeviceError, match="ThreadSanitizer: data race") as caught:
        run(language, "thread", WITH_BARRIER, changed)
    assert f"{WITH_BARRIER}{ENDINGS[language]}:" in str(caught.value).split("Previous")[0]


@pytest.mark.parametrize("language", ENDINGS)
def test_a_bound_that_is_broken_is_found_at_its_line(run, language, tmp_path):
    old, new = BOUND[language]
    changed = broken(tmp_path, language, old, new)
    (copied,) = changed.values()
    with pytest.raises(DeviceError, match="AddressSanitizer: heap-buffer-overflow") as caught:
        run(language, "address", WITH_BARRIER, changed)
    told = str(caught.value)
    assert f"{copied.name}:" in told
    lines = [int(part.split()[0].split(":")[0]) for part in told.split(f"{copied.name}:")[2:]]
    text = copied.read_text(encoding="utf-8")
    first = text[: text.index(new)].count("\n") + 1
    assert any(first <= line <= first + 8 for line in lines)
