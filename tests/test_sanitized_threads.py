"""Every kernel of every GPU source under ThreadSanitizer: races within a block and between them."""

from __future__ import annotations

import pytest

from kernels.gpu.device import DeviceError
from kernels.gpu.host import ENDINGS
from tests.sanitizer_runs import WITH_BARRIER, broken, each_language, each_operator, launched

BARRIER = {
    "cuda": "__syncthreads();",
    "metal": "threadgroup_barrier(mem_flags::mem_threadgroup);",
}


@each_operator
@each_language
def test_kernels_have_no_race(request, operator, language):
    launched(request.config, language, "thread", operator)


@each_language
def test_a_barrier_that_is_deleted_is_found_in_the_kernel(request, language, tmp_path):
    changed = broken(tmp_path, language, BARRIER[language], "")
    with pytest.raises(DeviceError, match="ThreadSanitizer: data race") as caught:
        launched(request.config, language, "thread", WITH_BARRIER, changed)
    assert f"{WITH_BARRIER}{ENDINGS[language]}:" in str(caught.value).split("Previous")[0]
