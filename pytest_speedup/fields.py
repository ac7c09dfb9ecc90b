"""A value of somebody's JSON that knows where it stands, so that a wrong one can be named.

Each method returns the value as the type it is named after, or raises `FieldError` with one line:
the place, what was wanted, what came. Nothing is converted silently: no boolean passes for a number
and no text for a list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

LARGEST = 1e30
"""Of any number, and one over it the smallest: far from what is measured and from overflow."""

PLAIN = str.maketrans("±×µ−–…·■", "~xu--~|#")
"""One cell for one, so that columns stay in line on a terminal without these signs."""


class FieldError(ValueError):
    """A value is missing or is not what its place asks for; the message is one line."""


@dataclass(frozen=True)
class Field:
    """One JSON value and its place, such as `benchmarks[3].stats`."""

    value: object
    place: str

    def refuse(self, wanted: str) -> NoReturn:
        """Raise the error of a value that is not `wanted`."""
        raise FieldError(f"{self.place} must be {wanted}, not {shown(self.value)}")

    def mapping(self) -> Mapping[str, object]:
        """An object, unchanged."""
        if not isinstance(self.value, Mapping):
            self.refuse("an object")
        return self.value

    def __getitem__(self, key: str) -> Field:
        if key not in self.mapping():
            raise FieldError(f"{self.place} has no {key!r}")
        return Field(self.mapping()[key], f"{self.place}.{key}")

    def optional(self, key: str) -> Field | None:
        """The value under `key`; None where it is absent or null."""
        if self.mapping().get(key) is None:
            return None
        return self[key]

    def items(self) -> Iterator[Field]:
        """Each value of a list."""
        if not isinstance(self.value, (list, tuple)):
            self.refuse("a list")
        for number, value in enumerate(self.value):
            yield Field(value, f"{self.place}[{number}]")

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            self.refuse("a text")
        return self.value

    def choice(self, *allowed: str) -> str:
        """One of these strings."""
        if self.value not in allowed:
            self.refuse(" or ".join(map(repr, allowed)))
        return str(self.value)

    def flag(self) -> bool:
        """A boolean."""
        if not isinstance(self.value, bool):
            self.refuse("true or false")
        return self.value

    def count(self, least: int) -> int:
        """A whole number from `least` on."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self.refuse(f"a whole number from {least} on")
        if not least <= self.value <= LARGEST:
            self.refuse(f"a whole number from {least} on")
        return self.value

    def positive(self) -> float:
        """A finite number above zero."""
        number = self._number("a positive number")
        if not 1 / LARGEST <= number <= LARGEST:
            self.refuse("a positive number")
        return number

    def error(self) -> float:
        """A number that is zero or more; infinity is none."""
        number = self._number("zero or a positive number")
        if not 0 <= number < math.inf:
            self.refuse("zero or a positive number")
        return number

    def blocks(self) -> tuple[tuple[float, ...], ...]:
        """Lists of positive seconds, none of them empty."""
        return tuple(block.block() for block in self.items())

    def block(self) -> tuple[float, ...]:
        """A list of positive seconds that is not empty."""
        seconds = tuple(each.positive() for each in self.items())
        if not seconds:
            self.refuse("a list with at least one time")
        return seconds

    def optional_text(self, key: str) -> str | None:
        """The string under `key`; None where it is absent or null."""
        field = self.optional(key)
        return None if field is None else field.text()

    def optional_positive(self, key: str) -> float | None:
        """The positive number under `key`; None where it is absent or null."""
        field = self.optional(key)
        return None if field is None else field.positive()

    def optional_mapping(self, key: str) -> Mapping[str, object]:
        """The object under `key`; an empty one where it is absent or null."""
        field = self.optional(key)
        return {} if field is None else field.mapping()

    def fact(self) -> float | int | str:
        """A text or a number of any kind."""
        if not isinstance(self.value, (str, int, float)):
            self.refuse("a text or a number")
        return self.value

    def _number(self, wanted: str) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            self.refuse(wanted)
        if abs(self.value) > LARGEST:
            return math.inf  # an int of this size need not fit a float
        return float(self.value)


def shown(value: object) -> str:
    """A value as an error may show it: one short line without control characters."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = visible(value) if isinstance(value, str) else str(value)
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return f'"{short}"' if isinstance(value, str) else short


def visible(text: str) -> str:
    r"""`text` with everything that a terminal would obey, or not show, written as `\x1b`, `\n`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def encodable(text: str, encoding: str) -> str:
    """`text` with what signs a stream has: stand-ins for our own, escapes for those in names."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return text
