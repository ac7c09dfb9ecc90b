"""One pytest session that measures: its options, its world, its marks and its ledger.

Kept in `config.stash`, so that nothing hangs on `config` and nothing is global. What a session
without arms never needs is imported where it is used: pytest's start waits for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.session import BenchmarkSession

from pytest_speedup.options import Options

if TYPE_CHECKING:
    from pytest_speedup.collective import World
    from pytest_speedup.energy import Meter, NoMeter
    from pytest_speedup.fixture import Speedup, Taken
    from pytest_speedup.ledger import Ledger
    from pytest_speedup.marks import Mark


@dataclass
class Measuring:
    """What the plugin knows of the session it is in."""

    config: pytest.Config
    options: Options
    world: World | None
    machine: dict[str, object] = field(default_factory=dict)
    load: object = None
    """The machine's load average over the last minute, before the first test."""
    marks: dict[str, Mark] = field(default_factory=dict)
    ledger: Ledger | None = None
    ran_nowhere: int = 0
    """Tests without the `mpi` marker, in a world of more than one rank."""
    stored_before: set[Path] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    """Runs saved and plots drawn by this session."""
    problems: list[str] = field(default_factory=list)
    meters: dict[str, Meter | NoMeter] = field(default_factory=dict)
    """By device."""
    holding: list[pytest.TestReport] | None = None
    """Where the reports of the test that runs now are kept instead of being logged."""

    @property
    def benchmarks(self) -> BenchmarkSession:
        """pytest-benchmark's own session."""
        plugin = self.config.pluginmanager.get_plugin("pytest-benchmark")
        assert isinstance(plugin, BenchmarkSession)
        return plugin

    @property
    def together(self) -> bool:
        """Whether several ranks run this session's tests in step."""
        return self.world is not None and self.world.size > 1

    @property
    def measures(self) -> bool:
        """Whether arms are timed: benchmarks are on, and this is no dry run."""
        dry = any(
            self.config.getoption(name, False) for name in ("collectonly", "setupplan", "setuponly")
        )
        return bool(self.marks) and not (dry or self.benchmarks.disabled or self.benchmarks.skip)

    @property
    def usable_cpus(self) -> int:
        """Of this machine, or of all hosts of the MPI world together."""
        usable = self.machine.get("usable_cpus")
        assert isinstance(usable, int)
        return usable if self.world is None else self.world.usable_cpus

    def collect(self, items: Sequence[pytest.Item]) -> None:
        """Read every arm's mark; raises pytest.UsageError for the first wrong one."""
        if not any(is_arm(item) for item in items):
            return
        from pytest_speedup.machine import describe
        from pytest_speedup.marks import read_marks, resolve_bases

        narrowed = any("::" in argument for argument in self.config.args)
        self.marks = resolve_bases(read_marks(filter(is_arm, items)), narrowed=narrowed)
        self.machine = describe()
        self.load = self.machine.pop("load_1min", None)

    def complete(self, machine: dict[str, Any], compared: Mapping[str, Any]) -> None:
        """Tell of this machine what a saved run told of its own, before the two are compared.

        They are before anything is collected, when nobody knows yet whether this run has arms.
        """
        if "speedup" in compared:
            from pytest_speedup.machine import describe

            mine = describe()
            mine.pop("load_1min", None)
            machine["speedup"] = mine

    def heading(self, items: Sequence[pytest.Item]) -> str | None:
        """One line on how this session is going to measure; None where every arm was deselected."""
        arms = sum(item.nodeid in self.marks for item in items)
        if not arms:
            return None
        passes = self.options.passes
        return (
            f"speedup: {arms} arm{'s' * (arms != 1)} in {passes} pass{'es' * (passes != 1)}, "
            f"order by seed {self.options.seed}, {self.usable_cpus} usable CPUs"
        )

    def hold(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Take a test's run over from pytest where its reports are to be kept."""
        if self.holding is None:
            return None
        # Each turn starts as a first run does: no properties, no captured output of an earlier one.
        del item.user_properties[:]
        del item._report_sections[:]
        self.holding.extend(runtestprotocol(item, log=False, nextitem=nextitem))
        return True

    def fixture(self, benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Speedup:
        """The `speedup` fixture of the test that runs now."""
        # Here, because it brings numpy, which takes longer to import than collecting many suites.
        from pytest_speedup.fixture import BLOCK_SECONDS, Speedup

        ledger = self.ledger
        known = ledger.current.taken if ledger is not None and ledger.current is not None else None
        team = None
        if self.world is not None and "comm" in request.fixturenames:
            comm = request.getfixturevalue("comm")
            if comm.size > 1:
                team = self.world.team(comm, request.node.nodeid, self.options.timeout)

        def keep(taken: Taken) -> None:
            if known is not None:
                was, now = known.stated, taken.stated
                if (was.work, was.unit) != (now.work, now.unit):
                    raise ValueError(
                        f"work was {was.work} {was.unit} in an earlier pass and is {now.work} "
                        f"{now.unit} now; an arm has to process as many items in every pass"
                    )
            if ledger is not None:
                ledger.taken = taken

        return Speedup(
            benchmark,
            plan=None if known is None else known.plan,
            block_seconds=self._block_seconds(BLOCK_SECONDS),
            team=team,
            keep=keep,
            meter=self._meter,
        )

    def _meter(self, device: str) -> Meter | NoMeter:
        """The device's energy counter, looked for once a session."""
        from pytest_speedup.energy import meter_of

        if device not in self.meters:
            self.meters[device] = meter_of(device)
        return self.meters[device]

    def _block_seconds(self, most: float) -> float:
        """A block's length; shorter where the passes together have a limit."""
        if self.options.max_time is None or self.ledger is None:
            return most
        turns = self.options.passes * (len(self.ledger.arms) + len(self.ledger.references))
        return min(most, 0.5 * self.options.max_time / turns)


def is_arm(item: pytest.Item) -> bool:
    """Whether the plugin measures this test: it has the marker, or takes the fixture."""
    names = getattr(item, "fixturenames", ())
    return "speedup" in names or item.get_closest_marker("speedup") is not None


STATE = pytest.StashKey[Measuring]()


def state_of(config: pytest.Config) -> Measuring:
    """The session's own `Measuring`."""
    return config.stash[STATE]
