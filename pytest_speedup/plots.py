"""Pictures of saved runs, as PNG and SVG: which of them are drawn, and how they are written.

Runs are laid over each other where their groups have the same name, and never averaged.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_speedup.analysis import Analysis
from pytest_speedup.bases import short_name
from pytest_speedup.comparison import compare
from pytest_speedup.device_pictures import device_pictures
from pytest_speedup.fields import visible
from pytest_speedup.layers import layers
from pytest_speedup.pictures import Picture, pictures
from pytest_speedup.records import RecordError
from pytest_speedup.sheet import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 24
"""Pictures of one call, so that a run of thousands of arms is drawn in seconds, not in minutes."""
FORMATS = {"png": {"Software": None}, "svg": {"Date": None}}
"""With the metadata that would make two drawings of one run differ."""


class FolderError(OSError):
    """The output folder cannot be written; the message names it, the reason and the remedy."""


def draw(
    analyses: Sequence[Analysis],
    out: Path,
    stem: str,
    *,
    most: int = MOST,
    implementations: bool = False,
) -> list[Path]:
    """Write the pictures of some runs into `out`, which is made where it is missing.

    Names are `{stem}-{group}-{kind}.png` and `.svg`, in characters that every file system takes; a
    file of that name is replaced, whole or not at all. Devices side by side come first, each by its
    fastest arm, or with `implementations` by the fastest of each implementation. Of more than
    `most` pictures the first pages of every group are drawn, and each one says so.
    RecordError where one run is given twice, FolderError where `out` cannot be written.
    """
    refuse_twice(analyses)
    check_folder(out)
    chosen, left_out = plan(analyses, most, implementations=implementations)
    notes = [left_out] if left_out else []
    taken: set[str] = set()
    written: list[Path] = []
    with style():
        for picture in chosen:
            page = f"-{picture.page}" if picture.page > 1 else ""
            name = f"{_slug(stem)}-{_slug(picture.group)}-{_slug(picture.kind)}{page}"
            written += _write(picture.figure(notes), out, _unique(name, taken))
    return written


def plan(
    analyses: Sequence[Analysis], most: int = MOST, *, implementations: bool = False
) -> tuple[list[Picture], str | None]:
    """The pictures that `draw` draws, and in words what it leaves out, if anything."""
    compared = compare(analyses, implementations=implementations)
    devices = device_pictures(compared) if compared is not None else []
    found = devices + [
        picture for group, stack in layers(analyses).items() for picture in pictures(group, stack)
    ]
    if len(found) <= most:
        return found, None
    pages = [1] * len(devices) + [picture.page for picture in found[len(devices) :]]
    first = sorted(range(len(found)), key=lambda i: (pages[i], i))[:most]
    left_out = (
        f"Only {most:,} of {len(found):,} pictures are drawn; "
        f"`pytest-speedup plot --pictures {len(found)}` draws all."
    )
    return [found[i] for i in sorted(first)], left_out


def refuse_twice(analyses: Sequence[Analysis]) -> None:
    """RecordError where two of the files hold one and the same run, even if saved twice.

    Two runs never share an arm's times to the last bit; their dates may differ for one run, as
    pytest-benchmark takes the time at each saving.
    """
    seen: dict[object, str] = {}
    for analysis in analyses:
        source = visible(analysis.run.source)
        for arm in analysis.run.arms:
            other = seen.get((arm.fullname, arm.blocks))
            if other is not None:
                raise RecordError(
                    f"{source}: holds the same run as {other} (the same times of "
                    f"{visible(short_name(arm.fullname))}); name it once"
                )
        seen |= {(arm.fullname, arm.blocks): source for arm in analysis.run.arms}


def check_folder(out: Path) -> None:
    """Make the folder and prove that files can be made in it; FolderError otherwise."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise FolderError(
            f"{visible(str(out))}: no picture can be written there ({reason}); "
            f"name another folder with --out"
        ) from None


def _write(figure: Figure, out: Path, name: str) -> list[Path]:
    """Both formats of a figure, each drawn in memory and put in its place in one step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    written = []
    for kind, metadata in FORMATS.items():
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, dpi=150, metadata=metadata)
        path, half = out / f"{name}.{kind}", out / f".{name}.{os.getpid()}.{kind}"
        try:
            half.write_bytes(drawn.getvalue())
            half.replace(path)
        except OSError as error:
            half.unlink(missing_ok=True)
            raise FolderError(
                f"{visible(str(path))}: cannot be written ({error.strerror}); "
                f"make room there or name another folder with --out"
            ) from None
        written.append(path)
    return written


def _slug(name: str) -> str:
    """`name` in letters, digits, `.`, `_` and `-` alone, at most 60 of them."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name)[:60].strip("-.") or "group"


def _unique(name: str, taken: set[str]) -> str:
    """`name`, with a number where a file system that ignores case would call it taken."""
    number, candidate = 1, name
    while candidate.lower() in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(candidate.lower())
    return candidate
