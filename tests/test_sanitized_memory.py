"""Every kernel of every GPU source under AddressSanitizer, a buffer in memory of just its size."""

from __future__ import annotations

import re

import pytest

from kernels.gpu.device import DeviceError
from kernels.gpu.host import ENDINGS, kernels_in
from kernels.gpu.operator import FOLDER
from kernels.registry import OPERATORS
from tests.sanitizer_runs import (
    CALLS,
    WITH_BARRIER,
    broken,
    each_language,
    each_operator,
    launched,
)

BOUND = {
    "cuda": ("if (line >= lines || at >= end) return v;", "if (at >= end) return v;"),
    "metal": ("r < rows && d < end ?", "d < end ?"),
}


@each_operator
@each_language
def test_kernels_stay_within_their_memory(request, operator, language):
    launched(request.config, language, "address", operator)


@each_language
def test_the_calls_launch_every_kernel(request, language):
    there = {
        (source, kernel.name)
        for source in FOLDER.rglob(f"*{ENDINGS[language]}")
        for kernel in kernels_in(source.read_text(encoding="utf-8"))
    }
    assert launched(request.config, language, None) == there
    assert {operator for operator, _ in CALLS} == {
        name for name, entry in OPERATORS.items() if entry.on_device
    }


@each_language
def test_a_bound_that_is_broken_is_found_at_its_line(request, language, tmp_path):
    old, new = BOUND[language]
    changed = broken(tmp_path, language, old, new)
    (copied,) = changed.values()
    with pytest.raises(DeviceError, match="AddressSanitizer: heap-buffer-overflow") as caught:
        launched(request.config, language, "address", WITH_BARRIER, changed)
    lines = re.findall(rf"{re.escape(copied.name)}:(\d+)", str(caught.value))
    text = copied.read_text(encoding="utf-8")
    first = text[: text.index(new)].count("\n") + 1
    assert any(first <= int(line) <= first + 8 for line in lines)
