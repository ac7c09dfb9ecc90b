"""All kernels of the GPU sources on the host grid under a sanitizer, for the tests of both.

The calls are those that each operator's tests list as `CALLS`; together they launch every kernel.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from kernels.gpu.host import ENDINGS, HostGrid
from kernels.gpu.implementations import IMPLEMENTATIONS
from kernels.gpu.operator import FOLDER
from kernels.gpu.recording import Recording
from kernels.registry import OPERATORS
from tests.gpu_checks import NAMES, OnArrays

CALLS = [
    call
    for file in sorted(Path(__file__).parent.glob("test_gpu_*.py"))
    for call in getattr(importlib.import_module(f"tests.{file.stem}"), "CALLS", ())
]
"""(operator, what calls it, given the operator on arrays and random numbers)."""
WITH_BARRIER = "linear"
"""An operator whose kernels have barriers and shared memory."""

each_operator = pytest.mark.parametrize("operator", sorted({operator for operator, _ in CALLS}))
each_language = pytest.mark.parametrize("language", ENDINGS)


class Changed:
    """A host grid that takes another file for one of the sources."""

    def __init__(self, grid, changed):
        self._grid = grid
        self._changed = changed
        self.kind, self.ending = grid.kind, grid.ending

    def launch(self, source, *rest):
        self._grid.launch(self._changed.get(source, source), *rest)


def launched(config, language, sanitizer, only=None, changed=None):
    """Make the calls, of one operator or of all, in both variants; (source, kernel) launched.

    Skips with the reason where there is no host grid.
    """
    grid = HostGrid(language, config.cache.mkdir("host_grid"), sanitizer)
    reason = grid.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    recording = Recording(Changed(grid, changed or {}))
    for name in NAMES:
        if IMPLEMENTATIONS[name].language != language:
            continue
        for operator, call in CALLS:
            if only in (None, operator):
                sequential = IMPLEMENTATIONS[name].sequential
                on_device = OPERATORS[operator].on_device(recording, sequential=sequential)
                call(OnArrays(on_device), np.random.default_rng(0))
    return {(launch.source, launch.kernel) for launch in recording.launches}


def broken(folder, language, old, new):
    """A copy of an operator's source with the first `old` replaced, as `launched` takes it."""
    source = FOLDER / f"{WITH_BARRIER}/{WITH_BARRIER}{ENDINGS[language]}"
    text = source.read_text(encoding="utf-8")
    assert old in text
    copied = folder / source.name
    copied.write_text(text.replace(old, new, 1), encoding="utf-8")
    return {source: copied}
