"""CUDA: a `.cu` file compiled by NVRTC through `cuda.core`, launched on torch's current stream.

Compiled for the device at hand and kept for the process. Nothing here needs a GPU before `launch`.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.gpu.device import DeviceError, Dim, check_launch

if TYPE_CHECKING:
    from kernels.gpu.device import Argument


class CudaDevice:
    """Runs kernels on the CUDA device on which the tensors lie."""

    kind = "cuda"
    ending = ".cu"

    def unavailable_reason(self) -> str | None:
        """Why no CUDA device can be used here, or None."""
        return _reason()

    def launch(
        self, source: Path, kernel: str, blocks: Dim, threads: Dim, arguments: Sequence[Argument]
    ) -> None:
        """Put the kernel onto torch's current stream; see `Device.launch`.

        The device may still be at it when this returns.
        """
        import torch
        from cuda.core import Device, LaunchConfig, launch

        check_launch(kernel, blocks, threads)
        device = next(a.device for a in arguments if isinstance(a, torch.Tensor))
        reason = self.unavailable_reason()
        if reason is not None:
            raise DeviceError(f"{source.name}: {kernel}: {reason}")
        with torch.cuda.device(device):
            # A thread that has called nothing of CUDA's runtime, as autograd's, has no context yet.
            Device(device.index).set_current()
            function = _function(source, kernel, device.index)
            stream = _stream(torch.cuda.current_stream().cuda_stream)
            values = [_passed(argument) for argument in arguments]
            try:
                launch(stream, LaunchConfig(grid=blocks, block=threads), function, *values)
            except Exception as error:
                raise DeviceError(f"{source.name}: {kernel}: {error}") from error


def cubin(source: Path, architecture: str) -> Any:
    """The compiled file as a `cuda.core.ObjectCode`, for sm_80, sm_90 and so on.

    Raises DeviceError with the compiler's message, by the file's own line numbers.
    """
    from cuda.core import Program, ProgramOptions

    text = source.read_text(encoding="utf-8")
    options = ProgramOptions(
        name=source.name, std="c++17", arch=architecture, include_path=str(source.parent)
    )
    program = Program(text, "c++", options)
    try:
        return program.compile("cubin")
    except Exception as error:  # cuda.core's own errors have no common base that is public
        raise DeviceError(f"NVRTC could not compile {source.name}: {error}") from error
    finally:
        program.close()


def no_device() -> str | None:
    """Why torch has no CUDA device here, or None."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    with warnings.catch_warnings(record=True) as told:  # torch warns of a driver that is too old
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        why = f": {str(told[-1].message).splitlines()[0]}" if told else ""
        return f"no CUDA device that torch can use{why}"
    return None


@dataclass(frozen=True)
class Resources:
    """What a kernel takes of a multiprocessor."""

    registers: int
    """Of a thread."""
    shared_bytes: int
    """Of a block."""
    occupancy: float
    """The share of the multiprocessor's threads that can be resident."""


def resources(source: Path, kernel: str, block: int, device: int = 0) -> Resources:
    """As the driver tells them, for blocks of `block` threads. Raises DeviceError."""
    import torch

    with torch.cuda.device(device):
        function = _function(source, kernel, device)
        resident = function.occupancy.max_active_blocks_per_multiprocessor(block, 0) * block
        most = torch.cuda.get_device_properties(device).max_threads_per_multi_processor
        used = function.attributes
        return Resources(int(used.num_regs), int(used.shared_size_bytes), resident / most)


@functools.lru_cache(maxsize=1)
def _reason() -> str | None:
    reason = no_device()
    if reason is not None:
        return reason
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.core") is None:
        return "cuda.core is not installed; pip install cuda-core"
    from cuda.bindings import driver, nvrtc

    _, newest = driver.cuDriverGetVersion()
    _, *compiler = nvrtc.nvrtcVersion()
    return too_old(newest, (compiler[0], compiler[1]))


def too_old(driver: int, compiler: tuple[int, int]) -> str | None:
    """Why a driver, as cuDriverGetVersion tells its version, cannot load what NVRTC compiles.

    Compiled for a device itself, code runs on every driver of the compiler's major version ("CUDA
    Compatibility", minor version compatibility) and on newer ones.
    """
    major, minor = driver // 1000, driver % 1000 // 10
    if major >= compiler[0]:
        return None
    return (
        f"the driver is for CUDA {major}.{minor}, too old for NVRTC {compiler[0]}.{compiler[1]}; "
        f"update the driver, or install nvidia-cuda-nvrtc of CUDA {major}"
    )


@functools.lru_cache(maxsize=256)
def _function(source: Path, kernel: str, device: int) -> Any:
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    code = _code(source, f"sm_{major}{minor}")
    try:
        return code.get_kernel(kernel)
    except Exception as error:
        raise DeviceError(f"{source.name}: {kernel} cannot be loaded: {error}") from error


_code = functools.lru_cache(maxsize=64)(cubin)


@functools.lru_cache(maxsize=64)
def _stream(handle: int) -> Any:
    from cuda.core import Stream

    return Stream.from_handle(handle)


def _passed(argument: Argument) -> Any:
    """As the kernel's parameter has it: a pointer, a 64-bit integer, a float."""
    if isinstance(argument, int):
        return np.int64(argument)
    if isinstance(argument, float):
        return np.float32(argument)
    return argument.data_ptr()
