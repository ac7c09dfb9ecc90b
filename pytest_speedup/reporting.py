"""What a session says at its end, and the plots beside what it saved."""

from __future__ import annotations

import pytest

from pytest_speedup.analysis import analyse
from pytest_speedup.fields import encodable
from pytest_speedup.measuring import Measuring
from pytest_speedup.reading import read_run, run_from_json
from pytest_speedup.records import RecordError, Run
from pytest_speedup.saving import saved_files
from pytest_speedup.table import render


def this_run(state: Measuring) -> Run:
    """The session's own run, as it would be read back from its JSON."""
    assert state.ledger is not None
    return run_from_json(
        {
            "machine_info": {"speedup": state.machine},
            "commit_info": {},
            "datetime": "",
            "benchmarks": [
                bench.as_dict(include_data=False, stats=False)
                for bench in state.benchmarks.benchmarks
                if "speedup" in bench.extra_info
            ],
            "speedup": state.ledger.run_json(),
        },
        "this run",
    )


def draw_plots(state: Measuring) -> None:
    """Turn every file that this run was saved to into pictures beside it."""
    saved = saved_files(state.benchmarks, state.stored_before)
    if not saved or not state.options.plots:
        return
    from pytest_speedup.plots import draw

    for file in saved:
        try:
            state.files += draw([analyse(read_run(file))], file.parent, file.stem)
        except (OSError, RecordError) as error:
            state.problems.append(f"no plots of {file}: {error}")


def summarise(state: Measuring, reporter: pytest.TerminalReporter) -> None:
    """The tables, the files written, and what did not run."""
    reporter.section("speedup")
    if state.ran_nowhere and state.world is not None:
        reporter.write_line(
            f"{state.ran_nowhere} tests without the marker `mpi` ran nowhere: "
            f"the world has {state.world.size} ranks."
        )
    if state.ledger is None:
        return
    draw_plots(state)
    if state.benchmarks.quiet:
        return
    width = max(80, min(reporter._tw.fullwidth, 140)) if reporter.isatty else 100
    try:
        text = render(analyse(this_run(state)), width=width, color=reporter._tw.hasmarkup)
    except RecordError as error:
        state.problems.append(f"no tables: {error}")
    else:
        encoding = getattr(reporter._tw._file, "encoding", None) or "utf-8"
        for line in encodable(text, encoding).splitlines():
            reporter.write_line(line)
    for problem in state.problems:
        reporter.write_line(problem, yellow=True)
    if state.files:
        pictures = [path for path in state.files if path.suffix == ".png"]
        reporter.write_line("")
        reporter.write_line(f"Plots, as PNG and SVG, in {pictures[0].parent}:")
        for path in pictures:
            reporter.write_line(f"  {path.stem}")
