"""Every pytest hook and fixture of the plugin, and nothing else: what they do lives elsewhere.

Modules that only a session with arms needs are imported by the hooks that need them.
A session without the marker and the fixture `speedup` is left as it is: no output, no ids, no JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark import plugin as benchmark_plugin
from pytest_benchmark.fixture import BenchmarkFixture

from pytest_speedup import mpi, options
from pytest_speedup.measuring import STATE, Measuring, state_of

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

    from pytest_speedup.fixture import Speedup

NAMED_IDS = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before output is captured and MPI is loaded
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    mpi.supervise(early_config)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "speedup(axis=None, base=None, scaling='strong', serial=True): measure this test as an "
        "arm; axis names the parameter that counts workers or batch items, base the strategy that "
        "the relative speedup is told against; serial=False keeps it from being the serial base.",
    )
    if not config.pluginmanager.is_registered(benchmark_plugin):
        # Switched off with `-p no:benchmark`; without it there is nothing to measure with.
        config.pluginmanager.unregister(sys.modules[__name__])
        return
    given = options.read_options(config)
    world = mpi.start_world(config, given)
    if world is not None:
        given = world.bcast(given)
    config.stash[STATE] = Measuring(config, given, world)


@pytest.hookimpl(tryfirst=True)  # before the terminal reporter's first line
def pytest_sessionstart(session: pytest.Session) -> None:
    mpi.silence(session.config, state_of(session.config).world)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Parametrize MPI arms over `ranks`, and let the ids of marked tests read `threads=4`."""
    stash = metafunc.config.stash
    marked = metafunc.definition.get_closest_marker("speedup") is not None
    stash[NAMED_IDS] = marked or "speedup" in metafunc.fixturenames
    try:
        mpi.parametrize_ranks(metafunc, state_of(metafunc.config))
        return (yield)
    finally:
        del stash[NAMED_IDS]


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    if config.stash.get(NAMED_IDS, False) and isinstance(val, str | int | float | bool | None):
        return f"{argname}={val}"
    return None


def pytest_itemcollected(item: pytest.Item) -> None:
    mpi.mark_item(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    state = state_of(config)
    state.collect(items)
    result = yield
    mpi.select(config, state, items)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    state = state_of(session.config)
    if state.measures:
        from pytest_speedup import saving

        mpi.refuse_together(state.world, lambda: saving.check_destinations(state.benchmarks))
        state.stored_before = saving.stored_runs(state.benchmarks)


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> str | None:
    state = state_of(config)
    return state.heading(items) if state.measures else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    state = state_of(session.config)
    if session.testsfailed and not session.config.option.continue_on_collection_errors:
        return None
    if session.config.option.collectonly or not (state.measures or state.together):
        return None
    from pytest_speedup.running import Running

    return Running(state).run(session)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    return state_of(item.config).hold(item, nextitem)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    state = state_of(config)
    if state.machine:
        machine_info["speedup"] = state.machine


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    state_of(config).complete(machine_info, compared_benchmark["machine_info"])


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    ledger = state_of(config).ledger
    if ledger is not None:
        output_json["speedup"] = ledger.run_json()


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_group_stats(
    config: pytest.Config, benchmarks: list[dict[str, Any]]
) -> Generator[None, Any, Any]:
    """Leave our arms to our own table, unless pytest-benchmark was asked to show them its way."""
    state = state_of(config)
    asked = state.benchmarks
    if not (asked.compare or asked.histogram or asked.cprofile_sort_by):
        benchmarks[:] = [b for b in benchmarks if "speedup" not in b["extra_info"]]
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-benchmark saves the run
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    state = state_of(session.config)
    if state.ledger is not None:
        from pytest_speedup import saving

        if state.ledger.incomplete is not None:
            saving.spare_earlier_result(state.benchmarks)
        saving.save_whole_or_not(session, state)
    result = yield
    mpi.share_exit_status(session, state.world)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    state = state_of(terminalreporter.config)
    if state.ledger is not None or state.ran_nowhere:
        # Here, because tables bring numpy and pictures matplotlib.
        from pytest_speedup import reporting

        reporting.summarise(state, terminalreporter)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    state = config.stash.get(STATE, None)
    if state is not None and state.world is not None:
        state.world.stop()


@pytest.fixture
def speedup(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Speedup:
    """Prove that a call returns what is expected, and time it: `speedup(f, x, expected=y)`."""
    return state_of(request.config).fixture(benchmark, request)


@pytest.fixture
def ranks(request: pytest.FixtureRequest) -> int:
    """How many MPI ranks this test runs on; the plugin parametrizes it."""
    count: int = request.param
    return count


@pytest.fixture
def comm(ranks: int, request: pytest.FixtureRequest) -> Intracomm:
    """The mpi4py communicator of the first `ranks` ranks; the test runs on those alone."""
    return mpi.communicator(state_of(request.config).world, ranks)
