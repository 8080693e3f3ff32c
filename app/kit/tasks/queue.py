"""Queue: accepts tasks, reads their state, aborts and requeues them. The worker runs them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Literal, TypeVar, Unpack, cast

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.kit.keys import Keys
from app.kit.scripts import Argument, run_script
from app.kit.tasks.context import running_task
from app.kit.tasks.handle import Handle
from app.kit.tasks.info import TaskInfo, WorkerInfo
from app.kit.tasks.model import Call, Depth, is_task_id, text_of, whole_of
from app.kit.tasks.submitter import SUBMIT_BATCH, Submitter
from app.kit.tasks.task import NO_PAYLOAD, EnqueueOptions, Task
from app.kit.tracing import Tracing

Payload = TypeVar("Payload")
T = TypeVar("T")
Place = Literal["waiting", "scheduled", "running", "dead"]

# How long a task stays readable that was aborted, or expired.
KEEP_ABORTED_MS = 3_600_000
# Tasks in one answer of list().
MAX_LISTED = 1000


def _nothing() -> None:
    return None


async def unless_wrong_type(reading: Awaitable[Any], nothing: T) -> T:
    """What is read; `nothing` where another program has written a key of another type, which a script moves aside."""
    try:
        found: T = await reading
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return nothing
        raise
    return found


class Queue:
    """One queue by name. `correlation` gives the id of what runs now, such as a request: a call carries it by default.

    So it does the trace of what runs now, where there is `tracing`.

    Fails closed: while Redis is down each call raises an error of app.kit.client.errors.UNAVAILABLE, and no task is
    accepted.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        name: str = "default",
        correlation: Callable[[], str | None] = _nothing,
        tracing: Tracing | None = None,
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.name = name
        self._correlation = correlation
        self._tracing = tracing
        self._places = keys.task_places(name)
        self._prefix = keys.task_prefix(name)
        self._submitter = Submitter(self.run, keep_aborted_ms=KEEP_ABORTED_MS)

    async def enqueue(
        self, task: Task[Payload], payload: Payload = NO_PAYLOAD, **options: Unpack[EnqueueOptions]
    ) -> Handle:
        """Enqueue one task; the calls of one tick of the loop share a round trip.

        Undecodable: the payload is no JSON. ValueError: an option is not allowed.
        """
        return (await self.submit([task.call(payload, **options)]))[0]

    async def submit(self, calls: Sequence[Call]) -> list[Handle]:
        """Enqueue many tasks, 500 in a round trip. May be repeated after an error: a known id is a no-op."""
        calls = [self.with_cause(call) for call in calls]
        answers: Any = await self._submitter.submit(calls)
        return [
            Handle(text_of(id), status.decode(), cast(Any, text_of(state)), position if position >= 0 else None, self)
            for id, status, state, position in answers
        ]

    async def chain(self, calls: Sequence[Call]) -> list[Handle]:
        """Enqueue tasks of which each starts when the one before it is done; up to 500.

        The result of the one before is the payload of a call whose own payload is null. Those after a task that failed
        wait until it is requeued and done, or purged; those after an aborted one are aborted.
        """
        if len(calls) > SUBMIT_BATCH:
            raise ValueError(f"a chain has up to {SUBMIT_BATCH} tasks: {len(calls)}")
        linked = list(calls[:1])
        for call in calls[1:]:
            takes_result = call.payload == b"null"
            linked.append(replace(call, parent=linked[-1].id, takes_result=takes_result))
        return await self.submit(linked)

    async def map(
        self,
        task: Task[Payload],
        payloads: Iterable[Payload],
        *,
        wait_seconds: float | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> list[Any]:
        """Enqueue one task a payload, and wait for all; the results in order. Raises as Handle.wait() does."""
        handles = await self.submit([task.call(payload, **options) for payload in payloads])
        async with asyncio.timeout(wait_seconds):
            return await asyncio.gather(*(handle.wait() for handle in handles))

    def with_cause(self, call: Call) -> Call:
        """The call with the id and the trace of what makes it, where it states none: the running task's own cause, or
        what `correlation` names."""
        task = running_task()
        cause = task.correlation_id if task is not None else self._correlation()
        traceparent = self._tracing.traceparent() if self._tracing else None
        if (cause is None or call.correlation_id) and (traceparent is None or call.traceparent):
            return call
        return replace(call, correlation_id=call.correlation_id or cause, traceparent=call.traceparent or traceparent)

    def handle(self, task_id: str) -> Handle:
        """To wait for, follow or abort a task that was enqueued elsewhere. ValueError: no task id."""
        if not is_task_id(task_id):
            raise ValueError(f"no task id: {task_id[:80]!a}")
        return Handle(task_id, "known", "queued", None, self)

    async def get(self, task_id: str) -> TaskInfo | None:
        """The task's state. None: never accepted, or ended more than its task's `keep_seconds` ago."""
        if not is_task_id(task_id):
            return None
        record = await self._hash(self.keys.task_record(self.name, task_id))
        return TaskInfo.from_record(task_id, record) if record else None

    async def abort(self, task_id: str) -> bool:
        """End a task that waits, or ask its worker to. False: no task of this id waits, runs, or has been aborted.

        Its worker is woken. A coroutine is cancelled, a child process is killed, and in a thread `context.cancelled`
        becomes true.
        """
        if not is_task_id(task_id):
            return False
        return bool(await self.run("tasks/abort", task_id, KEEP_ABORTED_MS, repeatable=True))

    async def tasks(self, place: Place, *, offset: int = 0, limit: int = 100) -> list[TaskInfo]:
        """Tasks of one place, up to 1,000: waiting in the order of their start, scheduled and running by time.

        Dead ones stand the latest first. Those that wait for a limit of their task stand after the other waiting ones.
        """
        limit = min(limit, MAX_LISTED)
        if place == "waiting":
            ids = await self._waiting(offset, limit)
        elif place == "dead":
            ids = await self._range(self._places[5], offset, limit, desc=True)
        else:
            ids = await self._range(self._places[3 if place == "scheduled" else 4], offset, limit, desc=False)
        found = await asyncio.gather(*(self.get(text_of(id)) for id in ids))
        return [info for info in found if info is not None]

    async def dead(self, *, offset: int = 0, limit: int = 100) -> list[TaskInfo]:
        """Dead letters, the latest first; `error` is the reason."""
        return await self.tasks("dead", offset=offset, limit=limit)

    async def workers(self) -> list[WorkerInfo]:
        """The workers that were seen within the last minute, and their health."""
        entries = await self._hash(self.keys.task_workers(self.name))
        found = (WorkerInfo.from_entry(worker_id, entry) for worker_id, entry in sorted(entries.items()))
        return [info for info in found if info is not None]

    async def depth(self) -> Depth:
        sizes = await self.run("tasks/depth", repeatable=True)
        names = ("high", "normal", "low", "scheduled", "running", "dead", "limited")
        counted: Any = dict(zip(names, sizes, strict=False))
        return cast(Depth, {**counted, "oldest_seconds": sizes[7] / 1000})

    async def totals(self) -> dict[str, int]:
        """How many tasks were done, failed, aborted and retried, leases expired (`lost`), reports refused, so far.

        `moved`: keys of a wrong type, which another program had written.
        """
        counted = await self._hash(self.keys.task_totals(self.name))
        names = ("done", "failed", "aborted", "retried", "lost", "refused", "moved")
        return {name: whole_of(counted.get(name.encode())) or 0 for name in names}

    async def requeue(self, task_id: str | Collection[str] | None = None) -> int:
        """Enqueue one dead letter again, or several, or all, with all attempts before them; returns how many.

        One whose unique key another task holds stays dead.
        """
        return await self._each_dead("tasks/requeue", task_id)

    async def purge(self, task_id: str | Collection[str] | None = None) -> int:
        """Delete one dead letter, or several, or all; returns how many. The tasks of a chain after it are aborted."""
        return await self._each_dead("tasks/purge", task_id, KEEP_ABORTED_MS)

    async def run(self, script: str, *args: Argument, repeatable: bool = False) -> Any:
        """Run one of the task scripts on this queue's keys."""
        return await run_script(
            self.redis, script, keys=self._places, args=[self._prefix, *args], repeatable=repeatable
        )

    async def _each_dead(self, script: str, task_id: str | Collection[str] | None, *args: Argument) -> int:
        given = [task_id] if isinstance(task_id, str) else list(task_id or ())
        ids: Any = [each for each in given if is_task_id(each)]
        if task_id is None:
            ids = await unless_wrong_type(self.redis.zrange(self._places[5], 0, -1), [])
        batches = [ids[start : start + SUBMIT_BATCH] for start in range(0, len(ids), SUBMIT_BATCH)]
        return sum([await self.run(script, *args, *batch) for batch in batches])

    async def _hash(self, key: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        return await unless_wrong_type(cast(Any, self.redis.hgetall(key)), found)

    async def _range(self, place: str, offset: int, limit: int, *, desc: bool) -> list[bytes]:
        found: list[bytes] = []
        return await unless_wrong_type(self.redis.zrange(place, offset, offset + limit - 1, desc=desc), found)

    async def _waiting(self, offset: int, limit: int) -> list[bytes]:
        nothing: list[bytes] = []
        names = await unless_wrong_type(
            cast(Any, self.redis.smembers(self.keys.task_limited(self.name))), frozenset(nothing)
        )
        parked = [self.keys.task_parked(self.name, text_of(name)) for name in sorted(names)]
        found: list[bytes] = []
        for place in (*self._places[:3], *parked):
            wanted = limit - len(found)
            if wanted <= 0:
                break
            # A list gives from its end.
            ids = await unless_wrong_type(cast(Any, self.redis.lrange(place, -offset - wanted, -offset - 1)), nothing)
            size = 0
            if not ids or offset:
                size = await unless_wrong_type(cast(Any, self.redis.llen(place)), 0)
            found += ids[::-1]
            offset = max(0, offset - size)
        return found
