"""How many CPUs this process may use, and what they are: read from the operating system's files.

Every reader takes the root of the file system as an argument and returns None (or an empty tuple)
for what is not told there, so that the functions run on made-up trees and never raise for a strange
machine. Formats: cgroups(7), proc(5), and the kernel's Documentation/admin-guide/cgroup-v2.rst,
Documentation/scheduler/sched-bwc.rst and Documentation/admin-guide/cputopology.rst.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")

FLAGS = {
    "sse4_2": "sse4.2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "bf16": "bf16",
    "i8mm": "i8mm",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
"""The kernel's name of each vector extension that matters to us -> the name that we print."""


@dataclass(frozen=True)
class Cpus:
    """What the machine's processors are, whether or not this process may use them."""

    model: str | None
    isa: tuple[str, ...]
    """Vector extensions, in the order of `FLAGS`."""
    physical_cores: int | None
    smt: bool | None
    """Whether a physical core runs more than one logical CPU at once."""


def usable_cpus(root: Path = ROOT) -> int:
    """min(affinity mask, cgroup quota rounded down), at least 1."""
    quota = cpu_quota(root)
    allowed = affinity()
    return allowed if quota is None else max(1, min(allowed, math.floor(quota)))


def affinity() -> int:
    """CPUs that this process may be scheduled on; all of them where the system has no such mask."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that the cgroup may use: the least over it and all of its ancestors.

    Reads version 1 (`cpu.cfs_quota_us` / `cpu.cfs_period_us`) and version 2 (`cpu.max`). None where
    nothing limits it, which includes systems without cgroups.
    """
    quotas = (_quota(folder) for folder in _cpu_cgroups(root))
    return min((quota for quota in quotas if quota is not None), default=None)


def linux_cpus(root: Path = ROOT) -> Cpus:
    """The processors as `/proc/cpuinfo` and `/sys/devices/system/cpu` tell them."""
    info = _cpuinfo(root)
    words = set((info.get("flags") or info.get("Features") or "").split())
    system = root / "sys/devices/system/cpu"
    online = _cpu_list(_read(system / "online") or "")
    # One core's logical CPUs all name the same list of siblings: as many lists as cores.
    siblings = [_read(system / f"cpu{cpu}/topology/thread_siblings_list") for cpu in online]
    cores = len({text for text in siblings if text})
    complete = cores > 0 and None not in siblings
    return Cpus(
        model=_model(info),
        isa=tuple(name for flag, name in FLAGS.items() if flag in words),
        physical_cores=cores if complete else None,
        smt=len(online) > cores if complete else None,
    )


def macos_cpus(sysctl: str) -> Cpus:
    """The processors as the lines `name: value` of sysctl(8) tell them."""
    lines = (line.partition(":") for line in sysctl.splitlines())
    values = {name: value.strip() for name, _, value in lines}
    words = f"{values.get('machdep.cpu.features')} {values.get('machdep.cpu.leaf7_features')}"
    have = set(words.lower().replace("avx1.0", "avx").split())
    if values.get("hw.optional.arm64") == "1":
        have.add("neon")
        arm = ("bf16", "i8mm", "sme")
        have |= {f for f in arm if values.get(f"hw.optional.arm.FEAT_{f.upper()}") == "1"}
    physical, logical = values.get("hw.physicalcpu", ""), values.get("hw.logicalcpu", "")
    known = physical.isdecimal() and logical.isdecimal()
    return Cpus(
        model=values.get("machdep.cpu.brand_string") or None,
        isa=tuple(name for name in FLAGS.values() if name in have),
        physical_cores=int(physical) if known else None,
        smt=int(logical) > int(physical) if known else None,
    )


def governor(root: Path = ROOT) -> str | None:
    """The frequency governor, several joined by "+" where CPUs differ; None where none is shown."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return "+".join(sorted({text for text in map(_read, files) if text})) or None


def _cpu_cgroups(root: Path) -> Iterator[Path]:
    """Every cgroup that limits this process, from its own up to the highest that is mounted."""
    own = {}
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    for line in (_read(root / "proc/self/mountinfo") or "").splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.partition(" ")
        if kind not in own or len(fields.split()) < 5:
            continue
        if kind == "cgroup" and "cpu" not in options.split(" ")[-1].split(","):
            continue
        mounted, mountpoint = map(_unescape, fields.split()[3:5])
        top = root / mountpoint.lstrip("/")
        below = _below(own[kind], mounted)
        yield from (top.joinpath(*below[:depth]) for depth in range(len(below), -1, -1))


def _below(path: str, mounted: str) -> tuple[str, ...]:
    """Parts of a cgroup's `path` under the cgroup `mounted`; none where it cannot be seen."""
    parts, above = _parts(path), _parts(mounted)
    # A cgroup namespace writes ".." for what lies outside of it; the mount is all that is seen.
    if ".." in parts or parts[: len(above)] != above:
        return ()
    return parts[len(above) :]


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _unescape(field: str) -> str:
    """proc(5): mountinfo writes space, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _quota(folder: Path) -> float | None:
    text = _read(folder / "cpu.max")
    if text is None:
        text = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    quota, _, period = text.partition(" ")
    # "max" (version 2) and -1 (version 1) mean no limit.
    if not (quota.isdecimal() and period.isdecimal() and int(period) > 0):
        return None
    return int(quota) / int(period)


def _cpuinfo(root: Path) -> Mapping[str, str]:
    """The first processor's entries; the file is long, and slow to make, on large machines."""
    info: dict[str, str] = {}
    try:
        with (root / "proc/cpuinfo").open(errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if not key.strip():
                    break
                info[key.strip()] = value.strip()
    except OSError:
        pass
    return info


def _model(info: Mapping[str, str]) -> str | None:
    named = info.get("model name") or info.get("Model") or info.get("cpu")
    if named or "CPU part" not in info:
        return named or None
    return f"implementer {info.get('CPU implementer', '?')} part {info['CPU part']}"


def _cpu_list(text: str) -> list[int]:
    """cpuset(7)'s list format: "0-3,8" -> 0, 1, 2, 3, 8."""
    found: list[int] = []
    for span in text.split(","):
        first, _, last = span.partition("-")
        if first.isdecimal():
            found += range(int(first), int(last if last.isdecimal() else first) + 1)
    return found


def _read(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None
