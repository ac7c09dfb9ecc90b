"""NVIDIA's management library, as far as a benchmark needs it: the driver and an energy counter.

Called through ctypes: the library comes with the driver, wherever there is one, while the Python
packages around it need not be installed.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"


class NvmlError(OSError):
    """NVML is not there, or refuses; the message says what and why."""


class Nvml:
    """The library, loaded and started; NvmlError where that cannot be had."""

    def __init__(self, library: Any = None) -> None:
        try:
            self._library: Any = ctypes.CDLL(LIBRARY) if library is None else library
        except OSError as error:
            raise NvmlError(f"NVML cannot be loaded ({error})") from None
        self._call("nvmlInit_v2")

    def driver(self) -> str:
        """The driver's version, such as "570.124.06"."""
        version = ctypes.create_string_buffer(96)
        self._call("nvmlSystemGetDriverVersion", version, ctypes.c_uint(len(version)))
        return version.value.decode("ascii", "replace")

    def device(self, uuid: str) -> ctypes.c_void_p:
        """A handle of the device that torch calls by this UUID."""
        handle = ctypes.c_void_p()
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        self._call("nvmlDeviceGetHandleByUUID", ctypes.c_char_p(name.encode()), _out(handle))
        return handle

    def joules(self, handle: ctypes.c_void_p) -> float:
        """Energy that the whole board took since the driver was loaded."""
        millijoules = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", handle, _out(millijoules))
        return millijoules.value / 1e3

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            code = getattr(self._library, name)(*arguments)
        except AttributeError:
            raise NvmlError(f"this driver's NVML has no {name}") from None
        if code:
            raise NvmlError(f"{name} failed: {self._reason(code)}")

    def _reason(self, code: int) -> str:
        told = self._library.nvmlErrorString
        told.restype = ctypes.c_char_p
        text = told(code)
        return text.decode("ascii", "replace") if text else f"error {code}"


def _out(value: Any) -> Any:
    return ctypes.byref(value)
