"""Joules of a block of calls, where the machine has a counter that may be read.

A counter is read before an arm's block of a pass and after it, and never while a round is timed.
What comes of it is the mean power of the block, in watts; times the seconds of a call it is that
call's energy. Counters count what they hang on, idle power and other programs' work included:

    cuda  NVML's total energy of the whole board; it moves every 20 to 100 ms
    cpu   Linux' RAPL (powercap): all processor packages, without memory; reading needs root mostly
    else  nothing that can be read without root

Where nothing can be read there is no number, and the reason is kept instead.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytest_speedup.accelerators import has_cuda
from pytest_speedup.nvml import Nvml

SHORTEST = 0.2
"""Seconds of a block below which a counter that moves ten times a second tells too little."""
POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """Energy counters of one device."""

    source: str
    """What counts, and what is counted."""
    span: float
    """Joules at which a counter begins at zero again."""

    def read(self) -> list[float]:
        """Each counter's joules; OSError where one cannot be read."""


@dataclass(frozen=True)
class NoMeter:
    """Why there is none."""

    reason: str


@dataclass
class Power:
    """What one block took."""

    source: str | None = None
    watts: float | None = None
    missing: str | None = None
    """Why there is no number, where there is none."""


class Rapl:
    """All processor packages of a Linux machine; OSError where one cannot be read."""

    source = "RAPL, processor packages"

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _is_package(zone)]
        if not self._zones:
            raise OSError(0, f"no processor package under {root}")
        self.span = min(_joules(zone / "max_energy_range_uj") for zone in self._zones)
        self.read()

    def read(self) -> list[float]:
        """One counter a package."""
        return [_joules(zone / "energy_uj") for zone in self._zones]


class Board:
    """One NVIDIA board; NvmlError where it cannot be read."""

    source = "NVML, the whole board"
    span = math.inf

    def __init__(self, nvml: Nvml, uuid: str) -> None:
        self._nvml, self._handle = nvml, nvml.device(uuid)
        self.read()

    def read(self) -> list[float]:
        """One counter, that of the board."""
        return [self._nvml.joules(self._handle)]


def meter_of(device: str) -> Meter | NoMeter:
    """The counter of a device as torch names it ("cpu", "cuda:1", "mps"), or why there is none."""
    kind, _, index = device.partition(":")
    try:
        if kind == "cpu":
            return Rapl() if sys.platform == "linux" else NoMeter("no counter without root here")
        if kind == "cuda":
            return _board(int(index) if index.isdecimal() else 0)
    except OSError as error:
        return NoMeter(_why(error))
    return NoMeter(f"{kind} has no energy counter that can be read without root")


@contextmanager
def metered(meter: Meter | NoMeter, clock: Callable[[], float] = time.monotonic) -> Iterator[Power]:
    """The mean power while a `with` block lasts, told once it is over."""
    power = Power()
    if isinstance(meter, NoMeter):
        power.missing = meter.reason
        yield power
        return
    power.source = meter.source
    before, began = _read(meter, power), clock()
    yield power
    seconds = clock() - began
    after = _read(meter, power)
    if power.missing is not None:
        return
    taken = sum(b - a if b >= a else b - a + meter.span for a, b in zip(before, after, strict=True))
    if seconds < SHORTEST:
        power.missing = f"a block of less than {SHORTEST:g} s is too short to be metered"
    elif not 0 < taken < math.inf:
        power.missing = f"{meter.source}: the counter stood still or began anew"
    else:
        power.watts = taken / seconds


def _read(meter: Meter, power: Power) -> list[float]:
    try:
        return meter.read()
    except OSError as error:
        power.missing = _why(error)
        return []


def _why(error: OSError) -> str:
    told = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return told or str(error)


def _board(index: int) -> Meter | NoMeter:
    torch = sys.modules.get("torch")
    if torch is None or not has_cuda(torch):
        return NoMeter("torch, which tells the GPU's UUID, sees no CUDA device")
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    if uuid is None:
        return NoMeter("this torch does not tell the GPU's UUID")
    return Board(Nvml(), str(uuid))


def _is_package(zone: Path) -> bool:
    """Whether a zone is a processor's package: neither a part of one nor a whole system."""
    try:
        return (zone / "name").read_text().startswith("package")
    except OSError:
        return False


def _joules(file: Path) -> float:
    try:
        return int(file.read_text()) / 1e6
    except ValueError:
        raise OSError(0, "holds no number", str(file)) from None
