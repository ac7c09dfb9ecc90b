"""Which arms lie on one line, in what order, and what that line is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_speedup.fields import LARGEST
from pytest_speedup.records import Arm

BATCH_AXES = ("batch_size", "micro_batches")
"""Axes that count items of a call rather than workers."""


def counts_workers(arm: Arm) -> bool:
    """Whether the arm's place on its axis is a number of workers."""
    value = None if arm.axis is None else arm.params.get(arm.axis)
    return arm.axis not in BATCH_AXES and is_number(value) and isinstance(value, int)


def has_workers(arm: Arm) -> bool:
    """Whether it counts workers and has one: 0 is the calling process alone, as in a DataLoader."""
    return counts_workers(arm) and arm.axis is not None and arm.params.get(arm.axis) != 0


def is_number(value: object) -> bool:
    """Whether a parameter's value can be a place on a numeric axis; NaN and infinity cannot."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -LARGEST <= value <= LARGEST


def split(arms: Sequence[Arm]) -> list[tuple[str, list[Arm]]]:
    """The series of a group's arms: label, and arms along the axis where that is a number.

    Arms of one test that differ in another parameter than the axis are in different series; so are
    those of two tests of one name.
    """
    lines: dict[tuple[object, ...], list[Arm]] = {}
    for arm in arms:
        lines.setdefault((_test(arm), *arm.series), []).append(arm)
    telling = _telling_params(arms)
    labels = [series_label(line[0], telling[line[0].strategy]) for line in lines.values()]
    shared = {label for label, count in Counter(labels).items() if count > 1}
    return [
        (f"{label} ({_test(line[0])})" if label in shared else label, _along_axis(line))
        for label, line in zip(labels, lines.values(), strict=True)
    ]


def series_label(arm: Arm, telling: Sequence[str]) -> str:
    """The strategy and the parameters that tell it from its siblings: "grid batch_size=8"."""
    names = [name for name in telling if name in arm.params and name != arm.axis]
    return " ".join([arm.strategy, *(f"{name}={arm.params[name]}" for name in names)])


def _telling_params(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """By strategy, the parameters whose values are not the same in all its arms."""
    seen: dict[str, dict[str, set[str]]] = {}
    counts = Counter((arm.strategy, name) for arm in arms for name in arm.params)
    totals = Counter(arm.strategy for arm in arms)
    for arm in arms:
        values = seen.setdefault(arm.strategy, {})
        for name, value in arm.params.items():
            values.setdefault(name, set()).add(str(value))
    return {
        strategy: [
            name
            for name, distinct in values.items()
            if len(distinct) > 1 or counts[strategy, name] < totals[strategy]
        ]
        for strategy, values in seen.items()
    }


def _along_axis(line: list[Arm]) -> list[Arm]:
    places = [arm.params.get(arm.axis or "") for arm in line]
    if not all(map(is_number, places)):
        return line
    numbers = [float(place) for place in places if isinstance(place, (int, float))]
    order = sorted(range(len(line)), key=numbers.__getitem__)
    return [line[index] for index in order]


def _test(arm: Arm) -> str:
    return arm.fullname.partition("[")[0]
