"""Text in columns of a terminal.

Ours rather than rich's: the table chooses between several layouts by their width, must never cut
a number, and has to hold 2,000 arms; that is less code than steering rich to it, and the wheel
stays light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from unicodedata import combining, east_asian_width

GAP = "  "


@dataclass(frozen=True)
class Column:
    """One column: its head and one cell a row."""

    head: str
    cells: tuple[str, ...]
    right: bool = True
    """Whether cells are set against the right edge, as numbers are."""
    least: int | None = None
    """Narrowest width to fold to; None where a cell must stay on one line."""

    @property
    def natural(self) -> int:
        """Width at which nothing folds."""
        return max(cells(text) for text in (self.head, *self.cells))


def cells(text: str) -> int:
    """Terminal cells that `text` takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def fold(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, broken at spaces, and inside a word only where it must be."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and cells(lines[-1]) + 1 + cells(word) <= width:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if cells(lines[-1]) + cells(char) > width:
                lines.append("")
            lines[-1] += char
    return lines


def widths(columns: Sequence[Column], width: int) -> list[int] | None:
    """Each column's width so that all fit into `width` cells, or None if they cannot.

    What is too much is taken from the widest of the columns that may fold.
    """
    taken = [column.natural for column in columns]
    too_much = sum(taken) + len(GAP) * (len(columns) - 1) - width
    while too_much > 0:
        spare = [
            (taken[i], i)
            for i, column in enumerate(columns)
            if column.least is not None and taken[i] > column.least
        ]
        if not spare:
            return None
        taken[max(spare)[1]] -= 1
        too_much -= 1
    return taken


def squeeze(
    columns: Sequence[Column], width: int, spared: Sequence[str]
) -> tuple[list[Column], list[int], list[str]]:
    """Columns that fit into `width`, their widths, and the heads of those that gave way.

    Those go first whose heads end as the first of `spared`; where none is left every column folds,
    and where that is not enough either the last ones go. `width` must hold one folded column.
    """
    kept, left_out, folded = list(columns), list[str](), False
    while (taken := widths(kept, width)) is None:
        spare = next((c for end in spared for c in kept if c.head.endswith(end)), None)
        if spare is None and not folded:
            kept = [replace(c, least=12 if i == 0 else 6) for i, c in enumerate(kept)]
            folded = True
            continue
        gone = kept[-1] if spare is None else spare
        left_out.append(gone.head)
        kept = [column for column in kept if column is not gone]
    return kept, taken, left_out


def lay_out(columns: Sequence[Column], taken: Sequence[int]) -> list[str]:
    """The head line(s) followed by the rows, at the widths that `widths` gave."""
    lines = []
    for row in zip(*((column.head, *column.cells) for column in columns), strict=True):
        folded = [fold(text, wide) for text, wide in zip(row, taken, strict=True)]
        for i in range(max(map(len, folded))):
            texts = [part[i] if i < len(part) else "" for part in folded]
            padded = [
                _pad(text, wide, column.right)
                for text, wide, column in zip(texts, taken, columns, strict=True)
            ]
            lines.append(GAP.join(padded).rstrip())
    return lines


def _pad(text: str, width: int, right: bool) -> str:
    blank = " " * (width - cells(text))
    return blank + text if right else text + blank
