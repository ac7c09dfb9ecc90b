"""The fixture `speedup`: verify, warm up, time, verify again.

Builds on pytest-benchmark's `benchmark.pedantic`, so that its options, JSON and comparisons go on
working; what pedantic leaves open is decided here: how many rounds, when a call is done, and on
how many ranks a round ends.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_benchmark.fixture import BenchmarkFixture

from pytest_speedup.devices import awaited, computes_on_cpu, device_of, synchronised
from pytest_speedup.energy import Meter, NoMeter, Power, metered
from pytest_speedup.machine import pool_threads
from pytest_speedup.proof import ProofError, plain_facts, prove, tolerance_of
from pytest_speedup.records import Proof
from pytest_speedup.stated import Stated, repeats_of, stated

SAMPLE_SECONDS = 0.1
"""A timed sample lasts at least this long where the arm allows more than one call in it."""
BLOCK_SECONDS = 0.4
"""What one arm's block of samples lasts in one pass, about."""
MAX_ROUNDS = 20


@dataclass(frozen=True)
class Plan:
    """How one arm is sampled; the same in every pass, and on every rank."""

    rounds: int
    iterations: int


@dataclass(frozen=True)
class Taken:
    """What the fixture knows about an arm after one turn."""

    plan: Plan
    stated: Stated
    intra_op: int
    """Threads that torch gave each worker, where the result is a tensor on a CPU; else 1."""
    proof: Proof
    threads: Mapping[str, int]
    device: str
    first_call: float
    facts: Mapping[str, float | int | str]
    ranks: tuple[tuple[float, ...], ...] | None
    """Seconds [round][rank] of an MPI arm."""
    power: Power
    """While the block of this turn lasted."""
    repeats: int
    """How often a call did its work; the seconds are of one."""


class Team(Protocol):
    """The ranks that an arm runs on; `collective.Team` is the one with more than one rank."""

    def agree_on(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""

    def all_passed(self, error: Exception | None) -> None:
        """Raise on every rank where any rank brings an error."""

    def start(self) -> float:
        """Wait for a start that all ranks share; its time on this rank's clock, in seconds."""

    def gather(self, seconds: Sequence[float]) -> list[list[float]]:
        """Per-rank rounds [rank][round], on every rank."""


def plan_rounds(
    seconds: float, *, repeatable: bool, block_seconds: float, wall: float = 0.0
) -> Plan:
    """Rounds and calls per round for an arm whose call takes about `seconds`.

    An arm with a `setup` before every call is not `repeatable`: its sample is one call. `wall` are
    a call's seconds on the wall's clock, where `--benchmark-timer` names another: a call that
    sleeps takes no CPU time, and would be repeated for hours.
    """
    call = max(seconds, wall / 10, 1e-9)
    iterations = max(1, round(SAMPLE_SECONDS / call)) if repeatable else 1
    sample = call * iterations
    least = 1 if sample > 5.0 else 2
    return Plan(max(least, min(MAX_ROUNDS, round(block_seconds / sample))), iterations)


class Speedup:
    """Callable fixture; one use per test, as with `benchmark`."""

    def __init__(
        self,
        benchmark: BenchmarkFixture,
        *,
        plan: Plan | None,
        block_seconds: float,
        team: Team | None,
        keep: Callable[[Taken], None],
        meter: Callable[[str], Meter | NoMeter] = lambda _: NoMeter("not metered"),
    ) -> None:
        self._benchmark: Any = benchmark  # pytest-benchmark has no annotations
        self._plan = plan
        self._block_seconds = block_seconds
        self._team = team
        self._keep = keep
        self._meter = meter

    def __call__(
        self,
        function: Callable[..., Any],
        *args: Any,
        expected: Any,
        work: float | None = None,
        unit: str = "images",
        peak: float | None = None,
        setup: Callable[[], Any] | None = None,
        cpus: int | None = None,
        tolerance: Any = None,
        design: Mapping[str, Any] | None = None,
    ) -> Any:
        """Time `function(*args)`, having shown that it returns what is expected.

        expected: a value (tensor, array, number, nested list, tuple or mapping of them), or a
            check that raises where its argument is wrong and may return facts to keep.
        work: how many items one call processes, all workers together; `unit` names them in the
            plural.
        peak: the most items per second that this machine gives on as many CPUs, measured in this
            run, where the arm's share of that is to be told.
        setup: called before every call and outside the timing; may return (args, kwargs).
        cpus: CPUs that the arm asks for; by default the product of its worker parameters, times
            torch's intra-op threads where the result is a tensor and no parameter is `threads`.
        tolerance: None for equality; {"rtol": ..., "atol": ...}; or a function from the expected
            value to the largest allowed |difference|.
        design: what the arm's design costs, such as {"launches": 3}; see `design.FACTS`.

        A `function` that does its work several times in a call says so by an attribute `repeats`;
        time, work and design are told of one.

        Returns the result of the last call. Raises ProofError where a result is wrong (the arm
        then has no time), TypeError or ValueError where an argument is.
        """
        __tracebackhide__ = True
        allowed = tolerance_of(tolerance)
        word = stated(work, unit, peak, cpus, design)

        def checked(result: Any) -> Proof:
            __tracebackhide__ = True
            return prove(result, expected, allowed)

        if self._benchmark.disabled:
            result = self._benchmark.pedantic(function, args, setup=setup)
            self._together(lambda: checked(result))
            return result

        timer = self._benchmark._timer
        try:
            first, seconds = self._together(lambda: _timed(timer, awaited(function), args, setup))
            before = self._together(lambda: checked(first))
        except BaseException:
            # It was used, though nothing was timed: pytest-benchmark need not warn.
            self._benchmark._mode = "speedup(...)"
            raise
        device = device_of(function, first)
        call = synchronised(function, device)
        plan = self._plan or self._plan_for(call, args, setup)
        with metered(self._meter_for(device, setup)) as power:
            result, ranks = self._measure(call, args, setup, plan)
        repeats = repeats_of(function)
        if repeats > 1:
            data = self._benchmark.stats.stats.data
            data[:] = [seconds / repeats for seconds in data]
            ranks = ranks and tuple(tuple(s / repeats for s in each) for each in ranks)
        after = self._together(lambda: checked(result))
        probe = getattr(function, "threads", None)
        threads = dict(probe() if callable(probe) else pool_threads())
        self._keep(
            Taken(
                plan=plan,
                stated=word,
                proof=before.together(after),
                threads=threads,
                intra_op=threads.get("torch", 1) if computes_on_cpu(result) else 1,
                device=device,
                first_call=seconds,
                facts=plain_facts(getattr(function, "facts", None) or {}),
                ranks=ranks,
                power=power,
                repeats=repeats,
            )
        )
        return result

    def _plan_for(
        self, call: Callable[..., Any], args: tuple[Any, ...], setup: Callable[[], Any] | None
    ) -> Plan:
        """The plan for a warm call, timed as often as a clock needs to tell its seconds.

        Rank 0's clock decides: a collective call has to be made equally often on every rank.
        """

        def some(calls: int) -> float:
            timer = self._benchmark._timer
            return sum(_timed(timer, call, args, setup)[1] for _ in range(calls))

        calls = 1
        while True:
            began = time.perf_counter()
            total = self._together(lambda n=calls: some(n))  # type: ignore[misc]
            total, wall = self._agree((total, time.perf_counter() - began))
            if total >= SAMPLE_SECONDS / 20 or wall >= SAMPLE_SECONDS or calls >= 4096:
                return plan_rounds(
                    total / calls,
                    repeatable=setup is None,
                    block_seconds=self._block_seconds,
                    wall=wall / calls,
                )
            calls *= 8

    def _meter_for(self, device: str, setup: object) -> Meter | NoMeter:
        if self._team is not None:
            return NoMeter("several ranks share the counter")
        if setup is not None:
            return NoMeter("the setup before each call would be counted too")
        return self._meter(device)

    def _agree(self, value: Any) -> Any:
        return value if self._team is None else self._team.agree_on(value)

    def _together(self, step: Callable[[], Any]) -> Any:
        """Do a step on every rank of the arm; where it fails on one it fails on all."""
        __tracebackhide__ = True
        if self._team is None:
            return step()
        error, value = None, None
        try:
            value = step()
        except Exception as raised:
            error = raised
        self._team.all_passed(error)
        return value

    def _measure(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        setup: Callable[[], Any] | None,
        plan: Plan,
    ) -> tuple[Any, tuple[tuple[float, ...], ...] | None]:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            if self._team is None:
                result = self._benchmark.pedantic(
                    call, args, setup=setup, rounds=plan.rounds, iterations=plan.iterations
                )
                return result, None
            return self._measure_together(self._team, call, args, setup, plan)
        finally:
            if was_enabled:
                gc.enable()

    def _measure_together(
        self,
        team: Team,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        setup: Callable[[], Any] | None,
        plan: Plan,
    ) -> tuple[Any, tuple[tuple[float, ...], ...]]:
        """Rounds that begin together and last until the slowest rank is done."""
        seconds: list[float] = []
        start = 0.0

        def prepare() -> Any:
            nonlocal start
            made = setup() if setup is not None else None
            start = team.start()
            return made

        def timed(*args: Any, **kwargs: Any) -> Any:
            for _ in range(plan.iterations):
                result = call(*args, **kwargs)
            seconds.append((time.perf_counter() - start) / plan.iterations)
            return result

        result = self._benchmark.pedantic(timed, args, setup=prepare, rounds=plan.rounds)
        by_round = tuple(zip(*team.gather(seconds[: plan.rounds]), strict=True))
        self._benchmark.stats.stats.data[:] = [max(ranks) for ranks in by_round]
        return result, by_round


def _timed(
    timer: Callable[[], float],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    setup: Callable[[], Any] | None,
) -> tuple[Any, float]:
    kwargs: Mapping[str, Any] = {}
    made = setup() if setup is not None else None
    if made:
        args, kwargs = made
    start = timer()
    result = function(*args, **kwargs)
    return result, timer() - start


__all__ = ["Plan", "ProofError", "Speedup", "Taken", "Team", "plan_rounds"]
