"""Properties of the algorithms under a simulated clock: what any window admits at most, and that waiting is enough."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.limits.decision import Decision
from app.kit.limits.limit import Algorithm, Limit
from app.kit.limits.limiter import RateLimiter

simulated = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@dataclass
class Clock:
    us: int = 1_750_000_000_000_000

    def now_us(self) -> int:
        return self.us


@dataclass
class Simulation:
    limiter: RateLimiter
    clock: Clock
    run: Callable[[Coroutine[Any, Any, Decision]], Decision]
    names: Iterator[str]

    def check(self, *limits: Limit, subject: str, cost: int = 1) -> Decision:
        return self.run(self.limiter.check([(limit, subject) for limit in limits], cost=cost))


@contextmanager
def simulation() -> Iterator[Simulation]:
    with asyncio.Runner() as runner:
        clock = Clock()
        limiter = RateLimiter(
            connect("memory://", name="test", timeout_seconds=5), Keys("simulated"), now_us=clock.now_us
        )
        yield Simulation(limiter, clock, runner.run, map(str, itertools.count()))


@dataclass(frozen=True)
class Step:
    """Wait `gap` of a window, ask for `cost` of the capacity, and give back the `refunds`-th unit before it."""

    gap: float
    cost: float
    refunds: int


gaps = st.one_of(st.just(0.0), st.floats(0, 0.2), st.sampled_from([0.25, 0.5, 0.999999, 1.0, 1.5, 2.5]))
steps = st.builds(Step, gap=gaps, cost=st.floats(0, 1), refunds=st.integers(0, 8))


def limits(algorithm: Algorithm) -> st.SearchStrategy[Limit]:
    def build(amount: int, seconds: int, burst: float) -> Limit:
        smooth = max(1, round(burst * amount)) if algorithm == "gcra" else None
        return Limit(name="any", amount=amount, window_seconds=seconds, algorithm=algorithm, burst=smooth)

    return st.builds(build, st.integers(1, 12), st.sampled_from([1, 7, 60, 86_400]), st.floats(0, 1))


def most_in_any_window(kept: dict[int, tuple[int, int]], window_us: int) -> int:
    """The largest sum of costs over all windows (end - window, end]. `kept` holds (time, cost)."""
    admitted = list(kept.values())
    return max((sum(cost for at, cost in admitted if end - window_us < at <= end) for end, _ in admitted), default=0)


def bound(limit: Limit) -> int:
    return {"log": limit.amount, "counter": 2 * limit.amount, "gcra": limit.amount + limit.capacity}[limit.algorithm]


@pytest.mark.parametrize("algorithm", ["log", "counter", "gcra"])
def test_no_window_admits_more_than_its_bound(algorithm: Algorithm) -> None:
    with simulation() as simulated_limiter:

        @simulated
        @given(limits(algorithm), st.lists(steps, max_size=30))
        def holds(limit: Limit, plan: list[Step]) -> None:
            admit_and_refund(simulated_limiter, limit, plan)

        holds()


def admit_and_refund(simulation: Simulation, limit: Limit, plan: list[Step]) -> None:
    subject, window_us = next(simulation.names), limit.window_seconds * 1_000_000
    kept: dict[int, tuple[int, int]] = {}
    decisions: list[Decision] = []
    for step in plan:
        simulation.clock.us += round(step.gap * window_us)
        cost = max(1, round(step.cost**3 * limit.capacity))
        decision = simulation.check(limit, subject=subject, cost=cost)
        if decision.allowed:
            kept[len(decisions)] = simulation.clock.us, cost
            decisions.append(decision)
        if 0 < step.refunds <= len(decisions):
            # Refunded again and again, also what was refunded before: it must come back once.
            simulation.run(simulation.limiter.refund(decisions[-step.refunds]))
            kept.pop(len(decisions) - step.refunds, None)
        assert most_in_any_window(kept, window_us) <= bound(limit)


@pytest.mark.parametrize("algorithm", ["log", "counter", "gcra"])
def test_waiting_as_long_as_told_always_admits(algorithm: Algorithm) -> None:
    with simulation() as simulated_limiter:

        @simulated
        @given(limits(algorithm), st.lists(steps, min_size=5, max_size=30), st.booleans())
        def holds(limit: Limit, plan: list[Step], whole_seconds: bool) -> None:
            wait_when_told(simulated_limiter, limit, plan, whole_seconds=whole_seconds)

        holds()


def wait_when_told(simulation: Simulation, limit: Limit, plan: list[Step], *, whole_seconds: bool) -> None:
    subject, window_us = next(simulation.names), limit.window_seconds * 1_000_000
    for step in plan:
        simulation.clock.us += round(step.gap * window_us)
        cost = max(1, round(step.cost * limit.capacity))
        decision = simulation.check(limit, subject=subject, cost=cost)
        limit_status = decision.statuses[0]
        wait_seconds = decision.retry_after_seconds if whole_seconds else limit_status.wait_seconds
        if not decision.allowed:
            assert limit_status.wait_seconds > 0
            simulation.clock.us += round(wait_seconds * 1e6)
            assert simulation.check(limit, subject=subject, cost=cost).allowed
        elif limit_status.remaining < limit.capacity:
            # An admitted request is told when there will be one unit more.
            simulation.clock.us += round(limit_status.wait_seconds * 1e6)
            peeked = simulation.run(simulation.limiter.peek([(limit, subject)]))
            assert peeked.statuses[0].remaining > limit_status.remaining


@pytest.mark.parametrize("algorithm", ["log", "counter", "gcra"])
def test_waiting_as_long_as_told_admits_whatever_the_clock_has_done(algorithm: Algorithm) -> None:
    """Redis' clock steps back, as after a failover, or a plan changes the limit: what is told then holds."""
    changes = st.tuples(st.floats(-3, 1), st.integers(1, 12), st.floats(0, 1))
    with simulation() as simulated_limiter:

        @simulated
        @given(st.sampled_from([1, 7, 60]), st.lists(changes, min_size=4, max_size=20))
        def holds(seconds: int, plan: list[tuple[float, int, float]]) -> None:
            simulation, subject = simulated_limiter, next(simulated_limiter.names)
            for step, amount, part in plan:
                simulation.clock.us += round(step * seconds * 1e6)
                burst = max(1, round(part * amount)) if algorithm == "gcra" else None
                limit = Limit(name="any", amount=amount, window_seconds=seconds, algorithm=algorithm, burst=burst)
                decision = simulation.check(limit, subject=subject)
                if not decision.allowed:
                    simulation.clock.us += round(decision.statuses[0].wait_seconds * 1e6)
                    assert simulation.check(limit, subject=subject).allowed

        holds()


@pytest.mark.parametrize("algorithm", ["log", "counter", "gcra"])
def test_what_was_refunded_might_as_well_not_have_been(algorithm: Algorithm) -> None:
    limit = Limit(name="wide", amount=100, window_seconds=60, algorithm=algorithm)
    with simulation() as simulated_limiter:

        @simulated
        @given(st.lists(steps, min_size=2, max_size=20), st.integers(0, 18), st.integers(1, 19))
        def holds(plan: list[Step], taken_at: int, refunded_after: int) -> None:
            compare_with_and_without(simulated_limiter, limit, plan, taken_at, taken_at + refunded_after)

        holds()


def compare_with_and_without(
    simulation: Simulation, limit: Limit, plan: list[Step], taken_at: int, refunded_at: int
) -> None:
    """Two subjects are charged alike, one of them once more; after the refund both stand alike."""
    plain, refunded = next(simulation.names), next(simulation.names)
    extra = None
    for n, step in enumerate(plan):
        simulation.clock.us += 10 + round(step.gap * 60e6)
        if n == taken_at:
            extra = simulation.check(limit, subject=refunded, cost=4)
        cost = max(1, round(step.cost * 4))
        assert all(simulation.check(limit, subject=subject, cost=cost).allowed for subject in (plain, refunded))
        if extra and n >= refunded_at:
            simulation.run(simulation.limiter.refund(extra))
    if extra:
        simulation.run(simulation.limiter.refund(extra))
    left = [
        simulation.run(simulation.limiter.peek([(limit, subject)])).statuses[0].remaining
        for subject in (plain, refunded)
    ]
    # What drained of the extra charge would have been idle time without it: for gcra that part is gone.
    assert left[1] <= left[0] if limit.algorithm == "gcra" else left[1] == left[0]


def test_gcra_gives_back_only_what_time_has_not() -> None:
    limit = Limit.parse("4/minute", name="smooth", algorithm="gcra")
    with simulation() as simulated_limiter:
        early, late = [simulated_limiter.check(limit, subject=subject) for subject in ("early", "late")]
        simulated_limiter.run(simulated_limiter.limiter.refund(early))
        simulated_limiter.clock.us += 15_000_000
        for subject in ("early", "late"):
            simulated_limiter.check(limit, subject=subject, cost=2)
        simulated_limiter.run(simulated_limiter.limiter.refund(late))
        for subject in ("early", "late"):
            peeked = simulated_limiter.run(simulated_limiter.limiter.peek([(limit, subject)]))
            assert peeked.statuses[0].remaining == 2


def test_several_exact_limits_are_all_or_nothing() -> None:
    with simulation() as simulated_limiter:

        @simulated
        @given(st.lists(limits("log"), min_size=2, max_size=3), st.lists(steps, max_size=30))
        def holds(several: list[Limit], plan: list[Step]) -> None:
            compare_with_plain_logs(simulated_limiter, several, plan)

        holds()


def compare_with_plain_logs(simulation: Simulation, several: list[Limit], plan: list[Step]) -> None:
    """The reference: one list of admitted times, which every limit counts within its own window."""
    named = [Limit(name=f"n{n}", amount=x.amount, window_seconds=x.window_seconds) for n, x in enumerate(several)]
    subject = next(simulation.names)
    admitted: list[int] = []
    for step in plan:
        simulation.clock.us += round(step.gap * 1e6 * named[0].window_seconds)
        now = simulation.clock.us
        # Entries of equal times stand a microsecond apart, so that gaps this short are not told apart.
        used = [sum(at > now - 1_000_000 * x.window_seconds for at in admitted) for x in named]
        expected = [n + 1 <= x.amount for n, x in zip(used, named, strict=True)]
        decision = simulation.check(*named, subject=subject)
        assert [s.admits for s in decision.statuses] == expected
        assert decision.allowed == all(expected)
        if decision.allowed:
            admitted.append(max(now, admitted[-1] + 1) if admitted else now)
