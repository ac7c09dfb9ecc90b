"""How a pytest session and an MPI world fit together; without `--with-mpi` nothing happens here.

`collective` knows MPI and no pytest, this module is between the two.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.config import create_terminal_writer

from pytest_speedup.options import Options

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

    from pytest_speedup.collective import World
    from pytest_speedup.measuring import Measuring
    from pytest_speedup.supervisor import Supervised

SUPERVISED: pytest.StashKey[Supervised] = pytest.StashKey()
ASKED = ("with_mpi", "only_mpi")
"""pytest-mpi's options that ask for a world."""

OUTPUTS: dict[str, object] = {
    "xmlpath": None,
    "benchmark_json": None,
    "benchmark_save": None,
    "benchmark_autosave": None,
    "benchmark_histogram": [],
    "benchmark_cprofile_dump": [],
}
"""Options that write files, and their values on ranks that write none."""


def supervise(early_config: pytest.Config) -> None:
    """Put this process under a parent that outlives it, where it is one of several ranks."""
    given = early_config.known_args_namespace
    if any(getattr(given, name, False) for name in ASKED):
        from pytest_speedup import supervisor

        early_config.stash[SUPERVISED] = supervisor.supervise()


def start_world(config: pytest.Config, options: Options) -> World | None:
    """Join the MPI world where pytest-mpi's options ask for it.

    Raises pytest.UsageError where mpi4py or an MPI library is missing, or too few ranks are there.
    """
    if not options.with_mpi:
        return None
    from pytest_speedup.collective import MissingMPI, World

    try:
        world = World.start(config.stash.get(SUPERVISED, None))
    except MissingMPI as error:
        raise pytest.UsageError(str(error)) from None
    too_many = max(options.ranks or (1,))
    if too_many > world.size:
        raise pytest.UsageError(
            f"--ranks {too_many}: the world has {world.size} rank{'s' * (world.size > 1)}; "
            f"start it with mpirun -n {too_many}"
        )
    if world.rank:
        for name, off in OUTPUTS.items():
            if hasattr(config.option, name):
                setattr(config.option, name, off)
    return world


def silence(config: pytest.Config, world: World | None) -> None:
    """Let rank 0 speak for all: the other ranks' terminal reporter writes to nowhere."""
    if world is None or world.rank == 0:
        return
    plugins = config.pluginmanager
    reporter = plugins.get_plugin("terminalreporter")
    if reporter is not None:
        nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
        config.add_cleanup(nowhere.close)
        reporter._tw = create_terminal_writer(config, nowhere)
    for name in ("lfplugin", "nfplugin", "stepwiseplugin"):
        if plugins.has_plugin(name):
            plugins.unregister(name=name)


def refuse_together(world: World | None, check: Callable[[], None]) -> None:
    """Raise the pytest.UsageError of rank 0's check on every rank, so that all end with it."""
    refused = None
    try:
        check()
    except pytest.UsageError as error:
        refused = str(error)
    if world is not None and world.size > 1:
        refused = world.bcast(refused)
    if refused is not None:
        raise pytest.UsageError(refused)


def parametrize_ranks(metafunc: pytest.Metafunc, state: Measuring) -> None:
    """Sweep a test with the fixture `comm` over ranks, unless it says which itself."""
    if not {"comm", "ranks"} <= set(metafunc.fixturenames):
        return
    marks = metafunc.definition.iter_markers("parametrize")
    given = (mark.args[0] if mark.args else mark.kwargs["argnames"] for mark in marks)
    lists = (names.split(",") if isinstance(names, str) else names for names in given)
    if "ranks" not in {name.strip() for names in lists for name in names}:
        size = 1 if state.world is None else state.world.size
        sweep = state.options.ranks or tuple(powers_of_two(size))
        metafunc.parametrize("ranks", sweep, indirect=True, ids=[f"ranks={n}" for n in sweep])


def powers_of_two(size: int) -> list[int]:
    """1, 2, 4, ... up to `size`."""
    return [1 << k for k in range(size.bit_length())]


def mark_item(item: pytest.Item) -> None:
    """A test that takes `comm` is an MPI test, also to pytest-mpi."""
    names = getattr(item, "fixturenames", ())
    takes_comm = "comm" in names and "ranks" in names
    if takes_comm and item.config.pluginmanager.has_plugin("pytest_mpi"):
        item.add_marker("mpi")


def communicator(world: World | None, ranks: int) -> Intracomm:
    """The communicator of the first `ranks` ranks; skips where there are fewer, or no MPI."""
    if world is None:
        pytest.skip("needs MPI: mpirun -n 4 pytest --with-mpi (pip install pytest-mpi mpi4py)")
    if ranks > world.size:
        pytest.skip(f"needs {ranks} ranks, the world has {world.size}")
    comm = world.first(ranks)
    assert comm is not None, "a rank that sits out runs no test"
    return comm


def select(config: pytest.Config, state: Measuring, items: list[pytest.Item]) -> None:
    """In a world of several ranks, keep the MPI tests alone, in rank 0's order on every rank.

    Raises pytest.UsageError where ranks collected different tests.
    """
    world = state.world
    if world is None or world.size == 1:
        return
    told = world.agree((bool(state.marks), _collection_error(config)), doing="collection")
    if not any(has_arms for has_arms, _ in told):
        return
    staying: list[pytest.Item] = []
    leaving: list[pytest.Item] = []
    for item in items:
        (staying if item.get_closest_marker("mpi") is not None else leaving).append(item)
    state.ran_nowhere = len(leaving)
    if leaving:
        config.hook.pytest_deselected(items=leaving)
    order: list[str] = world.bcast([item.nodeid for item in staying])
    mine: dict[str, Any] = {item.nodeid: item for item in staying}
    alike = world.agree(sorted(order) == sorted(mine), doing="collection", timeout=60.0)
    if not all(alike):
        other = alike.index(False)
        failed = [
            f"; rank {rank} failed at {told[rank][1]}" for rank in (0, other) if told[rank][1]
        ]
        raise pytest.UsageError(
            f"rank {other} collected other tests than rank 0{''.join(failed)}; all ranks have to "
            f"collect the same (-p no:randomly, and parameters that are alike on all hosts)"
        )
    items[:] = [mine[nodeid] for nodeid in order]


def _collection_error(config: pytest.Config) -> str | None:
    """What this rank, whose terminal may be silent, failed to collect first, and why."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for report in reporter.stats.get("error", ()) if reporter is not None else ():
        lines = report.longreprtext.splitlines()
        reason = next((line for line in lines if line.startswith("E ")), "").removeprefix("E")
        return f"{report.nodeid}: {reason.strip()}"
    return None


def share_exit_status(session: pytest.Session, world: World | None) -> None:
    """End every rank with rank 0's exit status: ranks that sat out saw fewer tests."""
    if world is not None and world.size > 1:
        session.exitstatus = world.bcast(int(session.exitstatus))
