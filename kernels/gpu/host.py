"""The host grid: a `.cu` or `.metal` file, unmodified, compiled by g++ and run on the CPU.

`host/grid.h` gives blocks, threads and barriers their meaning; `host/cuda_host.h` and
`host/metal_stdlib` each language's words. What is generated here is a table of the file's kernels.
It proves what a kernel computes, not how fast.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernels.gpu.device import DeviceError, Dim, check_launch

if TYPE_CHECKING:
    from kernels.gpu.device import Argument

HEADERS = Path(__file__).parent / "host"
ENDINGS = {"cuda": ".cu", "metal": ".metal"}
FLAGS = ("-U_FORTIFY_SOURCE", "-x", "c++", "-isystem", str(HEADERS))
STANDARDS = {
    ".cu": ("-std=c++17", "-w"),
    ".metal": ("-std=c++14", "-pedantic-errors", "-Wno-attributes"),  # pedantic: no word of C++17
}
KERNEL = re.compile(r"^\s*(?:extern\s+\"C\"\s+)?(?:__global__|kernel)\s+void\s+", re.MULTILINE)
NAME = re.compile(r"(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")
ATTRIBUTE = re.compile(r"\[\[\s*(\w+)\s*(?:\([^)]*\))?\s*\]\]")
SANITIZERS = ("address", "thread")
LONGEST = 120
"""Seconds that a launch under a sanitizer may take."""


class HostGrid:
    """Runs kernels on tensors in the CPU's memory; `folder` keeps what was compiled.

    `language` is "cuda" or "metal". `sanitizer`: "address" or "thread", under which each launch
    is a program of its own, and what it finds is a DeviceError with the sanitizer's report.
    """

    kind = "cpu"

    def __init__(self, language: str, folder: Path, sanitizer: str | None = None) -> None:
        if sanitizer not in (None, *SANITIZERS):
            raise ValueError(f"sanitizer must be one of {', '.join(SANITIZERS)}, got {sanitizer!r}")
        self.ending = ENDINGS[language]
        self._folder = folder
        self._sanitizer = sanitizer
        self._built: dict[Path, _Built] = {}

    def unavailable_reason(self) -> str | None:
        """Why there is no host grid here, or None."""
        if not sys.platform.startswith("linux"):
            return f"the host grid is for Linux, this is {sys.platform}"
        return None if shutil.which("g++") else "the host grid needs a C++ compiler, g++"

    def launch(
        self, source: Path, kernel: str, blocks: Dim, threads: Dim, arguments: Sequence[Argument]
    ) -> None:
        """Run the whole grid, block after block; see `Device.launch`."""
        check_launch(kernel, blocks, threads)
        built = self._built.get(source)
        if built is None:
            built = self._built[source] = self._build(source)
        found = built.kernels.get(kernel)
        if found is None:
            raise DeviceError(
                f"{source.name} has no kernel {kernel!r}; it has {', '.join(built.kernels)}"
            )
        number, wanted = found
        if len(arguments) != wanted:
            raise DeviceError(
                f"{source.name}: {kernel} takes {wanted} arguments, got {len(arguments)}"
            )
        run = _run_library if self._sanitizer is None else _run_program
        error = run(built, number, (*blocks, *threads), arguments)
        if error:
            raise DeviceError(f"{source.name}: {kernel}: {error}")

    def _build(self, source: Path) -> _Built:
        text = source.read_text(encoding="utf-8")
        kernels = list(kernels_in(text))
        main = self._sanitizer is not None
        table = _table(source, kernels, main)
        flags = [*FLAGS, *STANDARDS[source.suffix], f"-I{source.parent}"]
        if self._sanitizer is not None:
            flags += ["-g", "-O1", f"-fsanitize={self._sanitizer}", "-pthread"]
        else:
            flags += ["-O2", "-fPIC", "-shared"]
        known = hashlib.sha256("\0".join((text, table, *flags)).encode())
        for header in sorted([*HEADERS.iterdir(), *source.parent.glob("*.cuh")]):
            known.update(header.read_bytes())
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"{source.stem}{source.suffix}-{known.hexdigest()[:16]}"
        if not target.exists():
            _compile(table, flags, target)
        names = {kernel.name: (i, kernel.arguments) for i, kernel in enumerate(kernels)}
        return _Built(target, names, None if main else _library(target))


@dataclass(frozen=True)
class Kernel:
    """What a kernel's head says."""

    name: str
    parameters: Sequence[str]
    """The attribute that says what a parameter is, or ""."""

    @property
    def arguments(self) -> int:
        """How many arguments a launch passes."""
        return sum(_is_argument(attribute) for attribute in self.parameters)


@dataclass(frozen=True)
class _Built:
    target: Path
    kernels: dict[str, tuple[int, int]]
    """Name -> number in the table, and how many arguments it takes."""
    run: Callable[..., Any] | None = field(repr=False)


def _is_argument(attribute: str) -> bool:
    return attribute in ("", "buffer")


def kernels_in(text: str) -> Iterator[Kernel]:
    """The kernels of a source, by their heads."""
    for start in KERNEL.finditer(text):
        head = NAME.match(text, start.end())
        if head is None:
            continue
        depth, parameter, parameters = 1, "", []
        for letter in text[head.end() :]:
            depth += (letter in "([") - (letter in ")]")
            if depth == 0:
                break
            if letter == "," and depth == 1:
                parameters.append(parameter)
                parameter = ""
            else:
                parameter += letter
        parameters.append(parameter)
        attributes = [ATTRIBUTE.search(each) for each in parameters]
        yield Kernel(head[1], [found[1] if found else "" for found in attributes])


def _table(source: Path, kernels: Sequence[Kernel], main: bool) -> str:
    """The C++ file that is compiled: the source as it is, and how each kernel is called."""
    words = "cuda_host.h" if source.suffix == ".cu" else "metal_stdlib"
    headers = ["program.h", words] if main else [words]
    lines = [f'#include "{header}"' for header in (*headers, source)]
    lines += ["static const host_grid::Kernel table[] = {"]
    for kernel in kernels:
        arguments, taken = [], 0
        for i, attribute in enumerate(kernel.parameters):
            kind = f"host_grid::Parameter<{i}, decltype({kernel.name})>"
            if _is_argument(attribute):
                arguments.append(f"host_grid::argument<{kind}>(a[{taken}])")
                taken += 1
            else:
                arguments.append(f"host_grid::position<{kind}>(metal::{attribute}())")
        call = f"[](void** a) {{ {kernel.name}({', '.join(arguments)}); }}"
        lines.append(f'{{"{kernel.name}", {call}}},')
    lines.append("};")
    if main:
        lines.append("int main(int, char** a) { return host_grid::program(table, a[1]); }")
    else:
        lines.append(
            'extern "C" int host_grid_run(long number, const unsigned* n, void** a, char* error) {'
            "auto message = host_grid::run(table[number].call, a, {n[0], n[1], n[2]},"
            " {n[3], n[4], n[5]}); message.copy(error, 1023); return message.size(); }"
        )
    return "\n".join(lines) + "\n"


def _compile(table: str, flags: Sequence[str], target: Path) -> None:
    """Raises DeviceError with the compiler's message, by the source's own line numbers."""
    descriptor, made = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.")
    os.close(descriptor)
    try:
        done = subprocess.run(
            ["g++", *flags, "-", "-o", made],
            input=table, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise DeviceError(f"g++ could not compile the source:\n{done.stderr.strip()}")
        Path(made).rename(target)  # whole, or not there
    finally:
        Path(made).unlink(missing_ok=True)


def _library(target: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = ctypes.CDLL(str(target)).host_grid_run
    return run


def _run_library(built: _Built, number: int, sizes: Sequence[int], given: Sequence[Any]) -> str:
    values: list[Any] = []
    for argument in given:
        if hasattr(argument, "data_ptr"):
            values.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, int):
            values.append(ctypes.c_int64(argument))
        else:
            values.append(ctypes.c_float(argument))
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    error = ctypes.create_string_buffer(1024)
    assert built.run is not None
    failed = built.run(ctypes.c_long(number), (ctypes.c_uint * 6)(*sizes), pointers, error)
    return error.value.decode() if failed else ""


def _run_program(built: _Built, number: int, sizes: Sequence[int], given: Sequence[Any]) -> str:
    """A launch as `host/program.h` reads it."""
    parts = [struct.pack("<8q", number, *sizes, len(given))]
    tensors = []
    for argument in given:
        if hasattr(argument, "data_ptr"):
            tensors.append(argument)
            content = argument.numpy().tobytes()
            parts += [struct.pack("<q", -len(content)), content]
        elif isinstance(argument, int):
            parts.append(struct.pack("<qq", 8, argument))
        else:
            parts.append(struct.pack("<qf", 4, argument))
    with _temporary_file(b"".join(parts)) as path:
        options = {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
        try:
            done = subprocess.run(
                [built.target, path], capture_output=True, text=True, errors="replace",
                check=False, timeout=LONGEST, env=os.environ | options,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"the program was ended after {LONGEST} s"
        if done.returncode:
            return f"exit code {done.returncode}\n{done.stderr.strip()}"
        content = memoryview(path.read_bytes())
    import torch

    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if size:
            values = torch.frombuffer(bytearray(content[:size]), dtype=tensor.dtype)
            tensor.copy_(values.reshape(tensor.shape))
        content = content[size:]
    return ""


@contextmanager
def _temporary_file(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "launch"
        path.write_bytes(content)
        yield path
