"""`pytest-speedup`: tables and pictures of saved runs, later and on another machine.

Needs neither pytest nor torch nor MPI. Input that is refused gives one line on stderr and exit
code 4, as pytest's own usage errors do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn, TextIO

from pytest_speedup import side_by_side
from pytest_speedup.analysis import Analysis, analyse
from pytest_speedup.comparison import compare, no_case
from pytest_speedup.fields import encodable, visible
from pytest_speedup.plots import MOST, FolderError, draw, plan
from pytest_speedup.reading import read_run
from pytest_speedup.records import RecordError
from pytest_speedup.table import NARROWEST, render

USAGE, INTERRUPTED, BROKEN_PIPE = 4, 130, 141
EXAMPLES = """\
examples:
  pytest bench/ --benchmark-only --benchmark-json=run.json
  pytest-speedup table run.json
  pytest-speedup plot run.json
  pytest-speedup plot laptop.json server.json --out pictures
  pytest-speedup plot cpu.json cuda.json metal.json --implementations
"""


class Parser(argparse.ArgumentParser):
    """argparse with the exit code and the single line of our other refusals."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end."""
        self.exit(USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 4 for refused input, 130 for Ctrl-C."""
    try:
        given = _parser().parse_args(argv)
        code: int = given.run(given)
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except (RecordError, FolderError) as error:
        _say(f"pytest-speedup: {error}", sys.stderr)
        return USAGE
    except BrokenPipeError:
        # whoever read us has enough; what is still in the buffer must not raise once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # a full disk behind `>`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _say(f"pytest-speedup: cannot write the output ({error.strerror})", sys.stderr)
        return 1
    return code


def _parser() -> Parser:
    described = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "epilog": EXAMPLES,
        "allow_abbrev": False,
    }
    parser = Parser(
        "pytest-speedup",
        description="Tables and pictures of runs that were saved with --benchmark-json or "
        "--benchmark-save.",
        **described,  # type: ignore[arg-type]
    )
    parser.add_argument("--version", action="version", version=f"pytest-speedup {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    table = commands.add_parser(
        "table",
        help="print the tables of saved runs",
        description="Print the tables of saved runs, as they stood at the end of the session, and "
        "of several devices how long each takes for the same work.",
        **described,  # type: ignore[arg-type]
    )
    _add_implementations(table, "row")
    table.add_argument("files", nargs="+", metavar="RUN.json", type=Path)
    table.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    table.add_argument(
        "--width",
        type=_at_least(NARROWEST),
        metavar="N",
        help="cells of a line; by default the terminal's, or 100 where there is none",
    )
    table.set_defaults(run=_table)

    plot = commands.add_parser(
        "plot",
        help="draw pictures of saved runs",
        description="Draw saved runs as PNG and SVG: speedup and efficiency against workers, "
        "throughput against batch size, all strategies side by side. Several runs are laid over "
        "each other, never averaged; several devices stand side by side, case by case.",
        **described,  # type: ignore[arg-type]
    )
    _add_implementations(plot, "bar")
    plot.add_argument("files", nargs="+", metavar="RUN.json", type=Path)
    plot.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to; by default the first file's"
    )
    plot.add_argument(
        "--pictures",
        type=_at_least(1),
        default=MOST,
        metavar="N",
        help="draw at most N pictures, and say what is left out (default %(default)s)",
    )
    plot.set_defaults(run=_plot)
    return parser


def _add_implementations(command: argparse.ArgumentParser, each: str) -> None:
    command.add_argument(
        "--implementations",
        action="store_true",
        help=f"of several devices, a {each} for each implementation's fastest arm, not for the "
        "device's alone",
    )


def _table(given: argparse.Namespace) -> int:
    width = given.width or max(NARROWEST, shutil.get_terminal_size((100, 24)).columns)
    color = given.color == "always" or (given.color == "auto" and _in_colour())
    analyses = [analyse(read_run(file)) for file in given.files]
    compared = compare(analyses, implementations=given.implementations)
    for i, analysis in enumerate(analyses):
        if len(analyses) > 1:
            _say(f"{chr(10) if i else ''}== {_shown(given.files[i])}")
        _say(render(analysis, width=width, color=color))
    if compared is not None and (compared.cases or compared.machines > 1):
        _say("\n" + side_by_side.render(compared, width=width, color=color))
    return 0


def _plot(given: argparse.Namespace) -> int:
    analyses: list[Analysis] = [analyse(read_run(file)) for file in given.files]
    out = given.out or given.files[0].parent
    stem = "-".join(file.stem for file in given.files)
    compared = compare(analyses)
    if compared is not None and not compared.cases and compared.machines > 1:
        raise RecordError(no_case(compared))
    every: bool = given.implementations
    written = draw(analyses, out, stem, most=given.pictures, implementations=every)
    for path in written:
        _say(_shown(path))
    if not written:
        raise RecordError("no arm of these runs has a time, so there is nothing to draw")
    if left_out := plan(analyses, given.pictures, implementations=every)[1]:
        _say(left_out, sys.stderr)
    return 0


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdecimal() else -1
        if value < least:
            raise argparse.ArgumentTypeError(
                f'"{visible(text)}" is no whole number from {least} on'
            )
        return value

    return number


def _in_colour() -> bool:
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "") != "dumb"
    )


def _say(text: str, stream: TextIO | None = None) -> None:
    """Print with what signs the stream has: stand-ins for ours, escapes for those in names."""
    stream = stream or sys.stdout
    print(encodable(text, stream.encoding or "utf-8"), file=stream)


def _shown(path: Path) -> str:
    return visible(str(path))


def _version() -> str:
    try:
        return metadata.version("pytest-speedup")
    except metadata.PackageNotFoundError:
        return "(not installed)"
