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
NOTE_CELLS, TITLE_CELLS = 118, 66
"""Characters of a footnote's and of a title's line that fit into WIDTH at their sizes."""

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


def text_width(text: str, size: float) -> float:
    """Inches that the widest line of `text` takes at `size` points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=["DejaVu Sans"], size=size)
    widths = (
        text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]
        for line in text.split("\n")
    )
    return max(widths) / 72


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

    title = shorten(frame.title, TITLE_CELLS)
    notes = [line for note in frame.notes for line in fold(drawable(note), NOTE_CELLS)]
    warning = fold(drawable(frame.warning), NOTE_CELLS - 18) if frame.warning else []
    top = 0.82 + 0.21 * title.count("\n") + 0.17 * len(warning) + above
    bottom = 0.62 + 0.155 * len(notes)
    total = top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = Figure(figsize=(WIDTH, total))

    down = 0.12
    for text, size, step, colour, weight in (
        (title, 12.0, 0.24 + 0.21 * title.count("\n"), "black", "bold"),
        (shorten(frame.subtitle, 96, 1), 9.5, 0.2, "black", "normal"),
        (shorten(frame.source, 106, 1), 8.5, 0.2, GREY, "normal"),
        ("\n".join(warning), 8.5, 0.2, WARNING, "bold"),
    ):
        figure.text(
            *(0.15 / WIDTH, 1 - down / total, text),
            fontsize=size, color=colour, fontweight=weight, va="top",
        )  # fmt: skip
        down += step
    figure.text(0.15 / WIDTH, 0.1 / total, "\n".join(notes), fontsize=8, va="bottom", color=GREY)

    axes, edge = [], total - top
    for height in heights:
        edge -= height
        wide = WIDTH - left - right
        axes.append(figure.add_axes((left / WIDTH, edge / total, wide / WIDTH, height / total)))
        edge -= gap
    return figure, axes
