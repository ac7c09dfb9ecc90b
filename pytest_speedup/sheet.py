"""The paper that every picture is drawn on: its style, margins, title and footnotes.

matplotlib is imported inside functions alone, and never its pyplot: no global state, no window.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pytest_speedup.columns import cells, fold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette for all kinds of colour vision, without yellow, which print loses."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (7, 1.5, 1, 1.5)), (0, (1, 1)), (0, (4, 2)))
GREY = "#767676"
WARNING = "#B03A00"

WIDTH = 7.6
"""Inches, of every picture."""
TITLE_CELLS = 110
"""Characters of a title, which has two lines then."""
HINTING = 1.05
"""How much wider a text may come out in pixels than its outlines are."""

RC = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "pytest-speedup",
}


@dataclass(frozen=True)
class Frame:
    """What stands around the axes."""

    title: str
    subtitle: str
    """What is shown."""
    source: str
    """Machine and date."""
    warning: str | None
    notes: tuple[str, ...]


def style() -> AbstractContextManager[None]:
    """matplotlib's defaults and ours, whatever the user's own settings are, for a `with` block."""
    from matplotlib import style as styles

    return styles.context(["default", RC], after_reset=False)


def drawable(text: str) -> str:
    r"""`text` with every character that the font lacks as `\u6f22`, which a box would not tell."""
    glyphs = _glyphs()
    return "".join(
        c if ord(c) in glyphs or c == "\n" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def shorten(text: str, width: int, lines: int = 2) -> str:
    """`text` in at most `lines` lines of `width` cells, its middle left out where it is longer."""
    text = drawable(text)
    if cells(text) > width * lines:
        half = (width * lines) // 2 - 1
        text = f"{text[:half]}…{text[-half:]}"
    return text if lines == 1 else "\n".join(fold(text, width)[: lines + 1])


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Inches that the widest line of `text` takes at `size` points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=["DejaVu Sans"], size=size, weight=weight)
    widths = (
        text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]
        for line in text.split("\n")
    )
    return max(widths) / 72 * HINTING


def lines_within(text: str, inches: float, size: float, weight: str = "normal") -> str:
    """`text` broken into lines of at most `inches`."""
    text = drawable(text)
    count = int(inches * 72 / (0.5 * size))
    while text_width(folded := "\n".join(fold(text, count)), size, weight) > inches and count > 8:
        count -= 2
    return folded


def sheet(
    frame: Frame,
    heights: Sequence[float],
    left: float,
    right: float,
    *,
    above: float = 0.1,
    gap: float = 0.3,
) -> tuple[Figure, list[Axes]]:
    """A figure with its texts, and one Axes for each of `heights`, from the top down.

    All measures are inches; `left` and `right` are the margins beside the axes, `above` is room for
    words over the first of them, `gap` that between them.
    """
    from matplotlib.figure import Figure

    room = WIDTH - 0.3
    head = [
        (lines_within(text, room, size, weight), size, weight, colour)
        for text, size, weight, colour in (
            (shorten(frame.title, TITLE_CELLS, 1), 12.0, "bold", "black"),
            (frame.subtitle, 9.5, "normal", "black"),
            (frame.source, 8.5, "normal", GREY),
            (frame.warning or "", 8.5, "bold", WARNING),
        )
        if text
    ]
    notes = "\n".join(lines_within(note, room, 8) for note in frame.notes)
    steps = [0.07 + size / 72 * 1.2 * (1 + text.count("\n")) for text, size, _, _ in head]
    top = 0.2 + sum(steps) + above
    bottom = 0.62 + 0.155 * (1 + notes.count("\n"))
    total = top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = Figure(figsize=(WIDTH, total))

    down = 0.12
    for (text, size, weight, colour), step in zip(head, steps, strict=True):
        figure.text(
            *(0.15 / WIDTH, 1 - down / total, text),
            fontsize=size, color=colour, fontweight=weight, va="top",
        )  # fmt: skip
        down += step
    figure.text(0.15 / WIDTH, 0.1 / total, notes, fontsize=8, va="bottom", color=GREY)

    axes, edge = [], total - top
    for height in heights:
        edge -= height
        wide = WIDTH - left - right
        axes.append(figure.add_axes((left / WIDTH, edge / total, wide / WIDTH, height / total)))
        edge -= gap
    return figure, axes
