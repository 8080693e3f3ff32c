"""Clients that never stop asking, each checking that the answer is its own."""

import asyncio
import itertools
from collections import Counter
from types import TracebackType

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client.deadline import budget
from tests.scripts import echo

BUDGET_SECONDS = 0.25
# A wait is measured on a loaded machine: what is asserted is that it ends, not the scheduler's precision.
SLACK_SECONDS = 2.0


class Load:
    """`async with Load(redis, key)`: 32 callers run scripts, two a request, each request with its budget.

    At the end each caller must still be there, and none may be waiting for longer than its budget.
    """

    def __init__(self, redis: Redis, key: str, *, callers: int = 32) -> None:
        self._redis = redis
        self._key = key
        self._callers = callers
        self._tasks: list[asyncio.Task[None]] = []
        self._began: dict[int, float] = {}
        self.answered = 0
        self.wrong = 0
        self.longest_seconds = 0.0
        self.errors: Counter[str] = Counter()

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(self._callers)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = [task for task in self._tasks if task.done()]
        now = asyncio.get_running_loop().time()
        waits = [now - began for began in self._began.values()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in ended:
            task.result()
        assert max(waits, default=0.0) < BUDGET_SECONDS + SLACK_SECONDS

    async def _call(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        for turn in itertools.count():
            self._began[number] = began = loop.time()
            try:
                with budget(BUDGET_SECONDS):
                    for call in range(2):
                        mine = f"{number:04x}{turn:08x}{call:04x}"
                        self._check(await echo(self._redis, f"{self._key}:{mine}", mine), mine)
            except RedisError as error:
                self.errors[type(error).__name__] += 1
            self.longest_seconds = max(self.longest_seconds, loop.time() - began)
            del self._began[number]
            await asyncio.sleep(0.001)

    def _check(self, answer: str, mine: str) -> None:
        self.answered += 1
        self.wrong += answer != mine
