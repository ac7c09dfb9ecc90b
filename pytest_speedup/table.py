"""The terminal's view of a run: one table a group, and in words what it rests on and shows.

Only what `analysis` computed is shown. Colour is the only difference between a terminal and a
pipe; the layout follows from the width alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from pytest_speedup import costs, sentences, wording
from pytest_speedup.analysis import Analysis, ArmResult
from pytest_speedup.columns import Column, cells, fold, lay_out, squeeze, widths
from pytest_speedup.estimate import Estimate
from pytest_speedup.fields import visible
from pytest_speedup.records import Arm
from pytest_speedup.sentences import View

NARROWEST = 40
NONE = "–"
BOLD, RED, GREEN = "1", "1;31", "32"
STRATEGY, PROOF, SHARE = "strategy", "proof", "of peak"
SPARED = (", W", "J", "eff.", SHARE, "/s", "relative", "workers")
"""How the heads of columns end that give way on a narrow terminal, the first one first."""

Line = tuple[str, str]
"""A style ("" for none) and a text."""


def render(analysis: Analysis, *, width: int = 100, color: bool = False) -> str:
    """The run as text without a final newline, no line wider than `width` (at least 40) cells.

    Arms stand in collection order, series by series. With `color`, ANSI codes mark headings,
    warnings and the fastest arm; without, the only control characters are newlines.
    """
    width = max(width, NARROWEST)
    warning = wording.incomplete(analysis.run)
    lines: list[Line] = [*prose(warning, width, RED), ("", "")] if warning else []
    for view in sentences.views(analysis):
        lines += [*_group(view, width), ("", "")]
    if not analysis.groups:
        source = visible(analysis.run.source)
        lines += prose(f"{source}: no arm has a time", width, RED)
    for note in sentences.not_run(analysis.not_run):
        lines += prose(note, width)
    return coloured(lines, color)


def coloured(lines: Iterable[Line], color: bool) -> str:
    """The lines as one text without newlines at its end, with ANSI codes or without."""
    text = (f"\x1b[{s}m{t}\x1b[0m" if color and s and t else t for s, t in lines)
    return "\n".join(text).rstrip("\n")


def prose(text: str, width: int, style: str = "") -> list[Line]:
    """A sentence folded to the width, its later lines indented."""
    first, *rest = fold(text, width - 2)
    return [(style, first), *((style, f"  {line}") for line in rest)]


def _group(view: View, width: int) -> Iterator[Line]:
    yield from prose(visible(view.group.name), width, BOLD)
    for text in sentences.head(view):
        yield from prose(text, width)
    rows, legend = _table(view, width) if view.rows else ([], [])
    if rows:
        yield ("", "")
        yield from ((BOLD if i == 0 else "", row) for i, row in enumerate(rows))
        yield ("", "")
    if best := sentences.fastest(view):
        yield from prose(best, width, GREEN)
    for note in (*sentences.findings(view), *legend):
        yield from prose(note, width)


def _table(view: View, width: int) -> tuple[list[str], list[str]]:
    """The lines of the table in the roomiest layout that fits, and what its signs mean."""
    roomy = _columns(view, wording.bracketed)
    if taken := widths([replace(column, least=None) for column in roomy], width):
        return lay_out(roomy, taken), _legend(view, left_out=[])
    columns, taken, left_out = squeeze(_columns(view, wording.plus_minus), width, SPARED)
    reach = "±: as far as the farther end of the interval"
    return lay_out(columns, taken), [reach, *_legend(view, left_out)]


def _legend(view: View, left_out: list[str]) -> list[str]:
    arms = [row.arm for row in view.rows]
    count = wording.usable_cpus(view.run)
    cpus = "the usable CPUs" if count is None else f"the {count} usable CPU{'s' * (count != 1)}"
    signs = {
        f"*: oversubscribed, more than {cpus}; no efficiency, and outside every fit": any(
            arm.oversubscribed for arm in arms
        ),
        "4×2: 4 workers of 2 threads each": any("×" in wording.workers(arm) for arm in arms),
        "?: too few passes for an interval": any(row.time.low is None for row in view.rows),
        f"left out at this width: {'; '.join(left_out)}": bool(left_out),
    }
    return [text for text, holds in signs.items() if holds]


def _columns(view: View, told: Callable[..., str]) -> list[Column]:
    """All columns that say something about this group, intervals as `told` writes them."""
    rows, unit = view.rows, wording.time_unit(row.time.value for row in view.rows)
    decimals = wording.places(row.time.value / unit[1] for row in rows)

    def column(head: str, cell: Callable[[ArmResult], str]) -> Column:
        return Column(head, tuple(cell(row) for row in rows))

    proofs = tuple(wording.proof(row.arm) for row in rows)
    longest = max(cells(word) for proof in proofs for word in proof.split())
    columns = [
        Column(STRATEGY, tuple(view.called(row.arm) for row in rows), right=False, least=24),
        column("workers", lambda row: wording.workers(row.arm)),
        column(f"time, {unit[0]}", lambda row: told(row.time, decimals, unit[1])),
        _throughput(view),
        column(SHARE, lambda row: percent(row.share)),
        *energy_columns([row.arm for row in rows], told),
        column("relative", lambda row: _speedup(row, row.relative, row.relative_base, told)),
        column("absolute", lambda row: _absolute(row, told)),
        column("eff.", lambda row: percent(row.efficiency)),
        Column(PROOF, proofs, right=False, least=min(longest, 20)),
    ]
    return [column for column in columns if set(column.cells) != {NONE}]


def energy_columns(arms: Sequence[Arm | None], told: Callable[..., str]) -> list[Column]:
    """Power and the energy of a call; no columns where neither could be read for any arm."""
    watts = [costs.power(arm) if arm else None for arm in arms]
    joules = [costs.energy(arm) if arm else None for arm in arms]
    name, size = wording.energy_unit(each.value for each in joules if each)
    return [
        Column(head, tuple(told(each, places, scale) if each else NONE for each in values))
        for head, values, scale in (("power, W", watts, 1.0), (f"energy, {name}", joules, size))
        if any(values)
        for places in [wording.places((each.value / scale for each in values if each), most=2)]
    ]


def _throughput(view: View) -> Column:
    rates = [row.throughput.value for row in view.rows if row.throughput]
    prefix, size = wording.rate_unit(rates)
    decimals = wording.places(rate / size for rate in rates)
    units = {row.arm.unit for row in view.rows if row.throughput}
    head = wording.rate_name(prefix, units.pop() if len(units) == 1 else "items")
    return Column(
        head,
        tuple(
            wording.number(row.throughput.value / size, decimals) if row.throughput else NONE
            for row in view.rows
        ),
    )


def _speedup(
    row: ArmResult, speedup: Estimate | None, base: Arm | None, told: Callable[..., str]
) -> str:
    if speedup is None:
        return NONE
    return "base" if sentences.is_base(base, row.arm) else told(speedup)


def _absolute(row: ArmResult, told: Callable[..., str]) -> str:
    """A ratio between devices is no speedup; it is told below the table."""
    return NONE if row.device_ratio else _speedup(row, row.absolute, row.absolute_base, told)


def percent(share: Estimate | None) -> str:
    """A share's value alone: `45 %`."""
    return NONE if share is None else f"{100 * share.value:.0f} %"
