"""What an arm's design costs on its device, as the arm itself tells it.

`speedup(..., design={"launches": 3, "bytes": 1_048_576})` keeps these facts beside the arm's times.
They are counted or computed by whoever wrote the arm, never measured here, so the table shows them
apart from what was measured. `FACTS` is all that can be told, in the order in which it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_speedup.fields import LARGEST, shown


@dataclass(frozen=True)
class Fact:
    """One fact that a design may state."""

    meaning: str
    least: float
    most: float = LARGEST
    whole: bool = True

    def wanted(self) -> str:
        """What its value has to be, in words."""
        kind = "a whole number" if self.whole else "a number"
        if self.most < LARGEST:
            return f"{kind} above {self.least:g} and at most {self.most:g}"
        return f"{kind} from {self.least:g} on" if self.whole else f"{kind} above {self.least:g}"

    def takes(self, value: Any) -> bool:
        """Whether the value is one; numbers of NumPy count, booleans do not."""
        if isinstance(value, (bool, str)) or type(value).__name__ == "bool":
            return False
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return False
        if not math.isfinite(number) or number > self.most or (self.whole and number % 1):
            return False
        return number >= self.least if self.whole else number > self.least


FACTS = {
    "launches": Fact("kernels that one call starts on the device", 1),
    "launch_seconds": Fact("what starting one kernel costs, in seconds", 0, 10, whole=False),
    "threads": Fact("threads of one call's largest launch", 1),
    "registers": Fact("registers of a thread", 1),
    "shared_bytes": Fact("shared or threadgroup memory of a block, in bytes", 0),
    "occupancy": Fact("share of a multiprocessor's threads that can be resident", 0, 1, False),
    "bytes": Fact("bytes that one call moves from and to the device's memory", 1),
    "flop": Fact("floating-point operations that one call does", 1),
}
"""Name -> what it means and what it may be."""


def checked(design: Mapping[str, Any] | None) -> dict[str, float | int]:
    """The stated facts as plain numbers, ready for JSON; {} for None.

    TypeError where it is no mapping, ValueError for a name that `FACTS` does not have and for a
    value that is out of its range.
    """
    if design is None:
        return {}
    if not isinstance(design, Mapping):
        raise TypeError(f"design must be a mapping of names to numbers, got {shown(design)}")
    return dict(_facts(design))


def _facts(design: Mapping[str, Any]) -> Iterator[tuple[str, float | int]]:
    for name, value in design.items():
        fact = FACTS.get(name)
        if fact is None:
            raise ValueError(f"design has no {shown(name)}; it can tell {', '.join(FACTS)}")
        if not fact.takes(value):
            raise ValueError(
                f"design: {name} ({fact.meaning}) must be {fact.wanted()}, got {shown(value)}"
            )
        yield name, int(value) if fact.whole else float(value)
