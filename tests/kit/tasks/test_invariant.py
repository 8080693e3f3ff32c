"""After any operations in any order, each accepted id that has not ended is in exactly one place."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis.exceptions import ConnectionError as RedisConnectionError

from app.kit.client.connect import connect
from app.kit.keys import Keys, digest
from app.kit.tasks.model import PRIORITIES, Call, Claim, Priority, Report, ReportKind, TaskInfo
from app.kit.tasks.step import Stepper
from tests.kit.tasks.task_worker import UnreliableQueue

KEYS = Keys("model")
NAMES = [f"t{number}" for number in range(4)]
KINDS: list[ReportKind] = ["done", "retry", "dead", "abort", "release", "progress"]
names = st.sampled_from(NAMES)
workers = st.integers(0, 1)


class Model(RuleBasedStateMachine):
    """Two workers whose leases may have expired at once, whose replies may be lost, and whose reports may be stale."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis: Any = connect("memory://", name="model", timeout_seconds=5)
        self.queue = UnreliableQueue(self.redis, KEYS)
        self.workers = [
            Stepper(self.queue, f"w{number}", lease_seconds=60, max_deaths=2, fair_every=3, idle_seconds=2)
            for number in range(2)
        ]
        self.claims: list[list[Claim]] = [[], []]
        self.accepted: set[str] = set()

    def teardown(self) -> None:
        self.runner.run(self.redis.aclose())
        self.runner.close()

    @rule(
        name=names,
        delay=st.sampled_from([0, 0, 3600]),
        priority=st.sampled_from(PRIORITIES),
        unique=st.sampled_from([None, None, "k1", "k2"]),
    )
    def enqueue(self, name: str, delay: float, priority: Priority, unique: str | None) -> None:
        call = Call(name="any", id=name, delay_seconds=delay, priority=priority, unique=unique)
        [receipt] = self.runner.run(self.queue.submit([call]))
        self.accepted.add(receipt.id)
        assert receipt.id in self.accepted

    @rule(
        number=workers,
        limit=st.integers(0, 2),
        expires=st.booleans(),
        lost=st.booleans(),
        woken=st.booleans(),
        reported=st.lists(st.tuples(st.integers(1, 6), st.sampled_from(KINDS)), max_size=3),
        delay_ms=st.sampled_from([0, 3_600_000]),
    )
    def step(
        self,
        number: int,
        limit: int,
        expires: bool,
        lost: bool,
        woken: bool,
        reported: list[tuple[int, ReportKind]],
        delay_ms: int,
    ) -> None:
        if woken:
            self.runner.run(self.redis.lpop(KEYS.task_wake(self.queue.name)))
        worker, known = self.workers[number], self.claims[number]
        worker.lease_seconds = 0 if expires else 60
        # The latest claims are still held, most likely; the others are stale.
        chosen = [(known[-back], kind) for back, kind in reported if back <= len(known)]
        reports = [
            Report(claim.id, claim.token, kind, 3_600_000 if kind == "done" else delay_ms, "1")
            for claim, kind in chosen
        ]
        self.queue.loses_replies = lost
        try:
            answer = self.runner.run(worker.step(reports, limit=limit))
        except RedisConnectionError:
            assert lost
            assert len(self.queue.lost_reply[6]) <= 6 * limit
        else:
            assert len(answer.claims) <= limit
            known += answer.claims
        self.queue.loses_replies = False

    @rule(
        number=workers, name=names, what=st.sampled_from(["abort", "abort", "renew", "requeue", "requeue all", "purge"])
    )
    def administer(self, number: int, name: str, what: str) -> None:
        if what == "renew":
            held = [argument for claim in self.claims[number] for argument in (claim.id, claim.token)]
            self.runner.run(self.queue.run("tasks/renew", 60_000, *held))
        elif what == "abort":
            self.runner.run(self.queue.abort(name))
        elif what == "purge":
            self.accepted -= {name} if self.runner.run(self.queue.purge(name)) else set()
        else:
            self.runner.run(self.queue.requeue(None if what == "requeue all" else name))

    @invariant()
    def each_task_is_where_its_state_says_and_nowhere_else(self) -> None:
        self.runner.run(self._check())

    async def _check(self) -> None:
        *ready, sched, lease, dead, wake, aborts, _stat = KEYS.task_places(self.queue.name)
        found = [[id.decode() for id in await self.redis.lrange(place, 0, -1)] for place in ready]
        found += [[id.decode() for id in await self.redis.zrange(place, 0, -1)] for place in (sched, lease, dead)]
        everywhere = Counter(id for ids in found for id in ids)
        running = set(found[4])
        assert {id.decode() for id in await self.redis.smembers(aborts)} <= running
        # The worker that takes the token steps, so there is one whenever an idle worker would have work.
        assert await self.redis.llen(wake) <= 1
        assert await self.redis.llen(wake) == 1 or not any(found[:3])
        for name in NAMES:
            record = await self.redis.hgetall(KEYS.task_record(self.queue.name, name))
            assert bool(record) == (name in self.accepted)
            if record:
                info = TaskInfo.from_record(name, record)
                place = _place(info, record[b"priority"].decode())
                assert everywhere[name] == (0 if place is None else 1)
                assert place is None or name in found[place]
                await self._check_unique(info, record.get(b"unique"))
        assert set(everywhere) <= self.accepted

    async def _check_unique(self, info: TaskInfo, unique: bytes | None) -> None:
        """A key is held exactly by the task that waits or runs; an ended task may share its key with a live one."""
        if unique is not None:
            holder = await self.redis.get(f"{KEYS.task_prefix(self.queue.name)}u:{unique.decode()}")
            assert (holder == info.id.encode()) == (info.state in {"queued", "scheduled", "running"})
            assert len(unique) == len(digest("any"))


def _place(info: TaskInfo, priority: str) -> int | None:
    """The index of the place for the state; None: the task has ended and is in no place."""
    if info.state == "queued":
        return ("high", "normal", "low").index(priority)
    return {"scheduled": 3, "running": 4, "failed": 5, "done": None, "aborted": None}[info.state]


def test_any_order_of_operations_keeps_each_task_in_one_place() -> None:
    """Quick, and the same each time. The long one shrinks what it finds."""
    checks = settings(
        max_examples=16,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(Model, settings=checks)


@pytest.mark.long
def test_many_orders_of_operations_keep_each_task_in_one_place() -> None:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    checks = settings(
        max_examples=200, stateful_step_count=80, deadline=None, database=None, suppress_health_check=slow
    )
    run_state_machine_as_test(Model, settings=checks)
