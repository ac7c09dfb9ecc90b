"""What g++ cannot see of a `.metal` file, but Apple's compiler asks for: read off the text.

By the "Metal Shading Language Specification": address spaces (4), attributes of a kernel's
parameters (5.2), and what `torch.mps.compile_shader` makes of a source.
"""

from __future__ import annotations

import re

import pytest

from kernels.gpu.device import DeviceError
from kernels.gpu.host import HostGrid, kernels_in
from kernels.gpu.metal import MOST_BUFFERS
from kernels.gpu.operator import FOLDER

SOURCES = sorted(FOLDER.rglob("*.metal"))
BUILT_IN = "bool|char|uchar|short|ushort|int|uint|long|ulong|half|float"
POSITIONS = {
    "thread_position_in_grid",
    "thread_position_in_threadgroup",
    "threadgroup_position_in_grid",
    "threads_per_threadgroup",
    "threadgroups_per_grid",
    "threads_per_grid",
}
SCALARS = {
    "thread_index_in_threadgroup",
    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup",
}

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


def code_of(text):
    return re.sub(r"//[^\n]*", "", text)


def without_address_space(text):
    """The declarations and casts of pointers and references that name no address space."""
    code = code_of(text)
    types = "|".join([BUILT_IN, r"[a-z]+[234]", *re.findall(r"\bstruct (\w+)", code)])
    pointers = re.finditer(rf"([\w ]*)\b({types})(?: const)?\s*(?:\(\s*)?[*&]\s*(\w*)", code)
    return [
        found[0].strip()
        for found in pointers
        if re.fullmatch(types, found[2])
        and not re.search(r"\b(device|constant|thread|threadgroup)\b", found[1])
    ]


def parameters_of(text):
    """For each kernel its parameters, as (type, attribute, number)."""
    heads = re.findall(r"\bkernel void \w+\((.*?)\)\s*\{", code_of(text), re.DOTALL)
    form = re.compile(r"([\w ]+?[\s*&]+)\w+\s*\[\[\s*(\w+)(?:\((\d+)\))?\s*\]\]")
    return [form.findall(head) for head in heads]


@each_source
def test_pointers_and_references_name_their_address_space(source):
    assert without_address_space(source.read_text()) == []


def test_a_pointer_without_address_space_is_found():
    text = "inline void f(device const float* x, float& y, thread float (&z)[4]) { g((int4*)x); }"
    assert without_address_space(text) == ["float& y", "int4*"]


@each_source
def test_buffers_are_numbered_and_positions_of_one_kind(source):
    text = source.read_text()
    kernels = parameters_of(text)
    assert len(kernels) == len(list(kernels_in(text)))
    for parameters in kernels:
        numbers = [int(number) for _, attribute, number in parameters if attribute == "buffer"]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) <= MOST_BUFFERS
        others = {attribute: kind.strip() for kind, attribute, _ in parameters[len(numbers) :]}
        assert set(others) <= POSITIONS | SCALARS
        assert {others[each] for each in SCALARS & set(others)} <= {"uint"}
        # 5.2.3.6: those of one kernel are all scalars, or all vectors of one length
        assert len({others[each] for each in POSITIONS & set(others)}) <= 1


@each_source
def test_sources_are_ascii_and_constants_are_the_compiler_s(source):
    """torch reads a source as ASCII, and gets nothing where it is not."""
    text = source.read_text(encoding="utf-8")
    assert text.isascii()
    assert not re.search(r"^constant ", code_of(text), re.MULTILINE)  # constexpr constant


@pytest.mark.parametrize(
    "line",
    [
        "if constexpr (sizeof(float) == 4) y[0] = 1;",
        "threadgroup float4 a[1]; a[0][0] = 1;",
        "auto [p, q] = uint2(1, 2);",
    ],
    ids=["constexpr_if", "element_of_a_vector", "structured_binding"],
)
def test_what_metal_would_refuse_or_race_on_does_not_compile(line, tmp_path):
    grid = HostGrid("metal", tmp_path)
    reason = grid.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    source = tmp_path / "source.metal"
    head = "#include <metal_stdlib>\nusing namespace metal;\nkernel void f(device float* y)"
    source.write_text(f"{head}\n{{\n    {line}\n}}\n")
    with pytest.raises(DeviceError, match=r"source\.metal:5"):
        grid.launch(source, "f", (1, 1, 1), (1, 1, 1), [])
