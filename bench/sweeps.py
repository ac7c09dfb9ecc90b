"""Which values each parameter of the benchmarks takes: as asked for, or a sensible sweep.

A list that was asked for is used as it is, wherever the parameter occurs. Without one:

    threads, processes   powers of two up to twice the usable CPUs, so that oversubscription is
                         seen; 1 and all usable CPUs where the marker `one_and_all` says so
    batch_size           powers of two up to 32, but never more than there are images; where it is
                         not the axis, the largest of them and a quarter of that
    device               cpu, cuda and mps; those that are absent are skipped with the reason
"""

from __future__ import annotations

from dataclasses import dataclass

from models import InputError
from models.choice import parse_count

DEVICES = ("cpu", "cuda", "mps")
SHAPES = ("few", "all")
LARGEST_BATCH = 32
MOST_PER_CPU = 64
"""Workers; a hundred thousand threads end the process that asks for them, without a word."""


@dataclass(frozen=True)
class Sweeps:
    """What was asked for; None where nothing was."""

    threads: tuple[int, ...] | None = None
    processes: tuple[int, ...] | None = None
    batch_sizes: tuple[int, ...] | None = None
    devices: tuple[str, ...] | None = None
    shapes: str = "few"
    """Of the operators: "few" or "all"."""

    def values(
        self, name: str, *, usable_cpus: int, num_inferences: int, is_axis: bool, ends: bool
    ) -> tuple[int | str, ...]:
        """The sweep of one parameter of one test.

        `is_axis`: whether the test's series run along it; `ends`: whether 1 and all are enough.
        """
        if name == "device":
            return self.devices or DEVICES
        if name == "batch_size":
            sizes = self.batch_sizes or powers_of_two(min(LARGEST_BATCH, num_inferences))
            quarter = tuple(dict.fromkeys((max(1, sizes[-1] // 4), sizes[-1])))
            return sizes if is_axis or self.batch_sizes else quarter
        asked = self.threads if name == "threads" else self.processes
        if asked is None and ends:
            return tuple(dict.fromkeys((1, usable_cpus)))
        return asked or powers_of_two(2 * usable_cpus)


PARAMETERS = ("threads", "processes", "batch_size", "device")


def powers_of_two(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to and with `most`."""
    return tuple(1 << k for k in range(most.bit_length()))


def parse_sweeps(
    threads: str | None,
    processes: str | None,
    batch_sizes: str | None,
    device: str | None,
    num_inferences: int,
    shapes: str | None = None,
) -> Sweeps:
    """The command line's words -> Sweeps; raises InputError, naming option and value."""
    sizes = parse_counts("--batch-sizes", batch_sizes)
    if sizes and max(sizes) > num_inferences:
        raise InputError(
            f"--batch-sizes {max(sizes)}: a batch cannot be larger than the {num_inferences} "
            f"images; allowed: 1 to {num_inferences}, or ask for more with "
            f"--num-inferences {max(sizes)}"
        )
    return Sweeps(
        threads=parse_counts("--threads", threads),
        processes=parse_counts("--processes", processes),
        batch_sizes=sizes,
        devices=parse_devices(device),
        shapes=parse_shapes(shapes),
    )


def check_workers(sweeps: Sweeps, usable_cpus: int) -> None:
    """Raise InputError for more workers than could be started, before anything is."""
    most = MOST_PER_CPU * usable_cpus
    for option, counts in (("--threads", sweeps.threads), ("--processes", sweeps.processes)):
        if counts and max(counts) > most:
            raise InputError(
                f"{option} {max(counts)}: too many for this machine; allowed: 1 to {most}, which "
                f"is {MOST_PER_CPU} for each usable CPU ({usable_cpus})"
            )


def parse_counts(option: str, text: str | None) -> tuple[int, ...] | None:
    """`"1,2,8"` -> (1, 2, 8), each value once; raises InputError for anything but counts."""
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(parse_count(option, item) for item in text.split(",")))
    except InputError:
        raise InputError(
            f"{option} must be whole numbers of at least 1 with commas between them, such as "
            f"1,2,4; got {text!r}"
        ) from None


def parse_devices(text: str | None) -> tuple[str, ...] | None:
    """`"cpu,cuda"` -> ("cpu", "cuda"); None, the default, where "all" are asked for."""
    if text is None or text.strip() == "all":
        return None
    devices = tuple(dict.fromkeys(item.strip() for item in text.split(",")))
    for device in devices:
        if device not in DEVICES:
            raise InputError(
                f"--device must be all, or some of {', '.join(DEVICES)} with commas between them; "
                f"got {device!r}"
            )
    return devices


def parse_shapes(text: str | None) -> str:
    """`few`, the default, or `all`; raises InputError for anything else."""
    shapes = SHAPES[0] if text is None else text.strip()
    if shapes not in SHAPES:
        raise InputError(f"--shapes must be few or all; got {text!r}")
    return shapes
