"""What every arm was given so far, and how it is written down once its last pass is over.

pytest-benchmark makes one record per use of its fixture. An arm is run once per pass, so the
records of its passes are taken out of pytest-benchmark's list here and one comes back at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark.session import BenchmarkSession
from pytest_benchmark.stats import Metadata, Stats

from pytest_speedup.marks import Mark, reference_arms
from pytest_speedup.outcomes import Ended
from pytest_speedup.records import SCHEMA, Proof

if TYPE_CHECKING:
    from pytest_speedup.energy import Power
    from pytest_speedup.fixture import Taken

Json = dict[str, Any]


@dataclass
class Turns:
    """One arm's turns of this run."""

    item: pytest.Item
    mark: Mark
    blocks: list[list[float]] = field(default_factory=list)
    repeat: list[list[float] | None] = field(default_factory=list)
    """None for a pass before this arm became the reference."""
    started: list[float] = field(default_factory=list)
    """Seconds from the run's first turn to each pass' turn."""
    ranks: list[list[list[float]]] = field(default_factory=list)
    watts: list[float | None] = field(default_factory=list)
    """Mean power of each pass' block; None where it could not be read."""
    turns: int = 0
    """Turns that passed, with those that are told in `repeat`."""
    taken: Taken | None = None
    proof: Proof | None = None
    """What the proofs of all turns show together."""
    first_call: float | None = None
    bench: Metadata | None = None
    """pytest-benchmark's record of the latest pass."""
    reports: list[pytest.TestReport] = field(default_factory=list)
    durations: dict[str, float] = field(default_factory=dict)
    """Seconds of each phase over all passes."""
    reported: bool = False
    out: bool = False
    """Failed or skipped: gets no further turn and has no time."""


@dataclass
class Ledger:
    """All arms of a run, in collection order, and what became of the tests without a time."""

    arms: dict[str, Turns]
    references: dict[str, str]
    """Group -> arm that runs twice in each pass."""
    passes: int
    seed: int
    usable_cpus: int
    load: object
    world_size: int = 1
    passes_done: int = 0
    incomplete: str | None = None
    not_run: list[Json] = field(default_factory=list)
    current: Turns | None = None
    """The arm whose turn it is."""
    is_repeat: bool = False
    taken: Taken | None = None
    """What the fixture left during this turn."""

    def substitute(self, nodeid: str) -> str | None:
        """Where a group's reference arm is out, the arm that becomes it; None where all is well."""
        lost = self.arms[nodeid]
        if not lost.out or not self.runs_twice(nodeid):
            return None
        group = lost.mark.group
        left = {name: turns.mark for name, turns in self.arms.items() if not turns.out}
        chosen = reference_arms(left).get(group)
        if chosen is not None:
            self.references[group] = chosen
        return chosen

    @classmethod
    def of(
        cls,
        items: Mapping[str, pytest.Item],
        marks: Mapping[str, Mark],
        **facts: Any,
    ) -> Ledger:
        """An empty ledger for these arms; `facts` are its other fields."""
        return cls({nodeid: Turns(item, marks[nodeid]) for nodeid, item in items.items()}, **facts)

    def runs_twice(self, nodeid: str) -> bool:
        """Whether the arm is its group's reference: its second turn shows the noise floor."""
        return self.references.get(self.arms[nodeid].mark.group) == nodeid

    def keep(self, turns: Turns, benches: list[Metadata], started: float) -> None:
        """Add what one good turn measured: the last block of `benches`, and the fixture's word.

        The turn began `started` seconds after the run's first one.
        """
        turns.turns += 1
        bench = benches[-1] if benches else None
        if bench is None or not bench.stats.data:
            return
        if self.taken is not None:
            proof = self.taken.proof
            turns.proof = proof if turns.proof is None else turns.proof.together(proof)
        block = [float(seconds) for seconds in bench.stats.data]
        if self.is_repeat:
            turns.repeat += [None] * (self.passes_done - len(turns.repeat))
            turns.repeat.append(block)
            return
        turns.started.append(started)
        turns.blocks.append(block)
        turns.bench = bench
        turns.taken = self.taken
        if self.taken is not None:
            turns.watts.append(self.taken.power.watts)
            if turns.first_call is None:
                turns.first_call = self.taken.first_call
            if self.taken.ranks is not None:
                turns.ranks.append([list(seconds) for seconds in self.taken.ranks])

    def drop(self, turns: Turns, ended: Ended) -> None:
        """Take an arm out: it has no time, and the reason is kept."""
        turns.out = True
        group = turns.mark.group if turns.bench is None else turns.bench.group or turns.mark.group
        self.not_run.append(
            {
                "fullname": turns.item.nodeid,
                "group": group,
                "reason": ended.reason,
                "kind": ended.kind,
            }
        )

    def close(self, session: BenchmarkSession) -> None:
        """Hand one record per timed arm to pytest-benchmark, in collection order."""
        for turns in self.arms.values():
            if turns.out:
                continue
            if turns.bench is None and not turns.turns:
                if self.incomplete is not None:
                    self.drop(turns, Ended("interrupted", self.incomplete))
                continue
            timed = len(turns.blocks) + sum(block is not None for block in turns.repeat)
            if turns.bench is None or timed < turns.turns:
                # Block i would no longer be from pass i, as every ratio takes for granted.
                self.drop(turns, Ended("skipped", f"timed in {timed} of {turns.turns} turns"))
                continue
            # Afresh, for a test that asked for a statistic in its last turn had that one cached.
            turns.bench.stats = Stats()  # type: ignore[no-untyped-call]
            turns.bench.stats.data += [second for block in turns.blocks for second in block]
            turns.bench.group = turns.bench.group or turns.mark.group
            turns.bench.extra_info["speedup"] = self.arm_json(turns)
            session.benchmarks.append(turns.bench)

    def arm_json(self, turns: Turns) -> Json:
        """`extra_info["speedup"]` of one arm; see `records.Arm` for the fields."""
        mark, taken, proof = turns.mark, turns.taken, turns.proof
        cpus = mark.cpus
        if taken is not None:
            told = "threads" in mark.params
            cpus = taken.stated.cpus or mark.cpus * (1 if told else taken.intra_op)
        return {
            "schema": SCHEMA,
            "strategy": mark.strategy,
            "axis": mark.axis,
            "workers": mark.workers,
            "base": mark.base,
            "work": None if taken is None else taken.stated.work,
            "unit": "calls" if taken is None else taken.stated.unit,
            "peak": None if taken is None else taken.stated.peak,
            "scaling": mark.scaling,
            "cpus": cpus,
            "oversubscribed": cpus > self.usable_cpus,
            "serial": mark.serial and cpus == 1,
            "blocks": turns.blocks,
            "repeat": turns.repeat or None,
            "started": turns.started,
            "iterations": None if taken is None else taken.plan.iterations * taken.repeats,
            "ranks": turns.ranks or None,
            "verified": None if proof is None else asdict(proof),
            "threads": None if taken is None else dict(taken.threads),
            "device": "cpu" if taken is None else taken.device,
            "first_call": turns.first_call,
            "facts": {} if taken is None else dict(taken.facts),
            "design": {} if taken is None else dict(taken.stated.design),
            "power": None if taken is None else _power_json(turns.watts, taken.power),
        }

    def run_json(self) -> Json:
        """The saved run's own key "speedup"; see `records.Run` for the fields."""
        return {
            "schema": SCHEMA,
            "passes": self.passes,
            "passes_done": self.passes_done,
            "seed": self.seed,
            "incomplete": self.incomplete,
            "world_size": self.world_size,
            "load_1min": self.load,
            "not_run": self.not_run,
        }


def _power_json(watts: list[float | None], latest: Power) -> Json:
    """Watts of every pass where at least one could be read, else the reason why none could."""
    if all(each is None for each in watts):
        return {"source": latest.source, "watts": None, "missing": latest.missing}
    return {"source": latest.source, "watts": watts, "missing": None}
