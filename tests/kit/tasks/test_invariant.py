"""After any operations in any order, each accepted id that has not ended is in exactly one place."""

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis.exceptions import ConnectionError as RedisConnectionError

from app.kit.client.connect import connect
from app.kit.keys import Keys, digest
from app.kit.tasks.model import PRIORITIES, Call, Claim, Priority, Report, ReportKind
from app.kit.tasks.step import Stepper
from tests.kit.tasks.task_worker import UnreliableQueue

NAMES = [f"t{number}" for number in range(5)]
KINDS: list[ReportKind] = ["done", "retry", "dead", "abort", "release", "progress"]
# The tasks of this name: one runs at once, and two start in a minute.
LIMITED = "limited"
LIMITS = (LIMITED, 1, 2, 60_000)
HOUR_MS = 3_600_000
LIVE = {"held", "queued", "scheduled", "running"}
names = st.sampled_from(NAMES)
workers = st.integers(0, 1)
_numbers = itertools.count()


class Model(RuleBasedStateMachine):
    """Two workers whose leases may have expired at once, whose replies may be lost, and whose reports may be stale."""

    url = "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis: Any = connect(self.url, name="model", timeout_seconds=5)
        self.keys = Keys(f"model{next(_numbers)}")
        self.queue = UnreliableQueue(self.redis, self.keys)
        self.workers = [
            Stepper(
                self.queue, f"w{number}", lease_seconds=60, max_deaths=2, fair_every=3, idle_seconds=2, limits=LIMITS
            )
            for number in range(2)
        ]
        self.claims: list[list[Claim]] = [[], []]
        self.accepted: set[str] = set()

    def teardown(self) -> None:
        self.runner.run(self.redis.aclose())
        self.runner.close()

    @rule(
        name=names,
        task=st.sampled_from(["any", LIMITED]),
        delay=st.sampled_from([0, 0, 1800]),
        priority=st.sampled_from(PRIORITIES),
        unique=st.sampled_from([None, None, "k1", "k2"]),
        parent=st.sampled_from([None, None, *NAMES]),
        expires=st.sampled_from([None, None, 900]),
        restart=st.booleans(),
    )
    def enqueue(
        self,
        name: str,
        task: str,
        delay: float,
        priority: Priority,
        unique: str | None,
        parent: str | None,
        expires: float | None,
        restart: bool,
    ) -> None:
        call = Call(
            name=task,
            id=name,
            delay_seconds=delay,
            priority=priority,
            unique=unique,
            parent=None if restart or parent == name else parent,
            takes_result=True,
            expires_seconds=expires,
            restart=restart,
        )
        was_known = self.runner.run(self.queue.get(name)) is not None
        [handle] = self.runner.run(self.queue.submit([call]))
        self.accepted.add(handle.id)
        if handle.status == "restarted":
            assert was_known
            assert restart
        elif handle.status == "new":
            assert not was_known
        info = self.runner.run(handle.info())
        assert info is not None
        assert info.state == handle.state

    @rule(
        number=workers,
        limit=st.integers(0, 2),
        expires=st.booleans(),
        lost=st.booleans(),
        woken=st.booleans(),
        reported=st.lists(st.tuples(st.integers(1, 6), st.sampled_from(KINDS)), max_size=3),
        delay_ms=st.sampled_from([0, HOUR_MS // 2]),
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
            self.runner.run(self.redis.lpop(self.keys.task_wake(self.queue.name)))
        worker, known = self.workers[number], self.claims[number]
        worker.lease_seconds = 0 if expires else 60
        # The latest claims are still held, most likely; the others are stale.
        chosen = [(known[-back], kind) for back, kind in reported if back <= len(known)]
        reports = [
            Report(claim.id, claim.token, kind, -1 if kind == "done" else delay_ms, "1") for claim, kind in chosen
        ]
        self.queue.loses_replies = lost
        try:
            answer = self.runner.run(worker.step(reports, limit=limit))
        except RedisConnectionError:
            assert lost
            assert len(self.queue.lost_reply[8]) <= 7 * limit
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

    @rule()
    def an_hour_passes(self) -> None:
        """Every time in Redis becomes an hour older, which is what its clock's advance is to the scripts."""
        self.runner.run(self._shift())

    async def _shift(self) -> None:
        *_, sched, lease, _dead, _wake, _aborts, _stat, _workers, _limited = self.keys.task_places(self.queue.name)
        for place in (sched, lease):
            for id in await self.redis.zrange(place, 0, -1):
                await self.redis.zincrby(place, -HOUR_MS, id)
        for name in NAMES:
            record = self.keys.task_record(self.queue.name, name)
            for field in ("expires", "due", "created"):
                if await self.redis.hexists(record, field):
                    await self.redis.hincrby(record, field, -HOUR_MS)
        await self.redis.delete(f"{self.keys.task_prefix(self.queue.name)}rate:{LIMITED}")

    @invariant()
    def each_task_is_where_its_state_says_and_nowhere_else(self) -> None:
        self.runner.run(self._check())

    async def _check(self) -> None:
        *ready, sched, lease, dead, wake, aborts, _stat, _workers, limited = self.keys.task_places(self.queue.name)
        lists = [*ready, self.keys.task_parked(self.queue.name, LIMITED)]
        found = [[id.decode() for id in await self.redis.lrange(place, 0, -1)] for place in lists]
        found += [[id.decode() for id in await self.redis.zrange(place, 0, -1)] for place in (sched, lease, dead)]
        everywhere = Counter(id for ids in found for id in ids)
        running = set(found[5])
        assert {id.decode() for id in await self.redis.smembers(aborts)} <= running
        # The worker that takes the token steps, so there is one whenever an idle worker would have work.
        assert await self.redis.llen(wake) <= 1
        assert await self.redis.llen(wake) == 1 or not any(found[:3])
        assert not found[3] or await self.redis.sismember(limited, LIMITED)
        records = {name: await self.redis.hgetall(self.keys.task_record(self.queue.name, name)) for name in NAMES}
        counted = {name for name in NAMES if b"limited" in records[name]}
        in_limit = await self.redis.smembers(f"{self.keys.task_prefix(self.queue.name)}run:{LIMITED}")
        assert {id.decode() for id in in_limit} == counted <= running
        assert len(counted) <= 1
        for name, record in records.items():
            assert bool(record) == (name in self.accepted)
            if record:
                place = _place(record)
                assert everywhere[name] == (0 if place is None else 1)
                assert place is None or name in found[place]
                assert record[b"state"] != b"held" or _is_held(name, records)
                await self._check_unique(name, record)
        assert set(everywhere) <= self.accepted

    async def _check_unique(self, name: str, record: dict[bytes, bytes]) -> None:
        """A key is held exactly by the task that waits or runs; an ended task may share its key with a live one."""
        if (unique := record.get(b"unique")) is not None:
            holder = await self.redis.get(f"{self.keys.task_prefix(self.queue.name)}u:{unique.decode()}")
            assert (holder == name.encode()) == (record[b"state"].decode() in LIVE)
            assert len(unique) == len(digest("any"))


def _place(record: dict[bytes, bytes]) -> int | None:
    """The index of the place for the state; None: the task has ended, or is held, and is in no place."""
    state = record[b"state"].decode()
    if state == "queued":
        return 3 if b"parked" in record else ("high", "normal", "low").index(record[b"priority"].decode())
    return {"scheduled": 4, "running": 5, "failed": 6}.get(state)


def _is_held(name: str, records: dict[str, dict[bytes, bytes]]) -> bool:
    """A parent that is not done, and may still be, names it."""
    parents = (record for record in records.values() if name in record.get(b"children", b"").decode().split())
    return any(record[b"state"].decode() in LIVE | {"failed"} for record in parents)


def test_any_order_of_operations_keeps_each_task_in_one_place(redis_url: str) -> None:
    """Quick, and the same each time."""
    checks = settings(
        max_examples=16,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(type("ModelHere", (Model,), {"url": redis_url}), settings=checks)


@pytest.mark.long
def test_many_orders_of_operations_keep_each_task_in_one_place(redis_url: str) -> None:
    """Other walks in each run, within a minute or two: what is found is printed, and not shrunk."""
    checks = settings(
        max_examples=80,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(type("ModelHere", (Model,), {"url": redis_url}), settings=checks)
