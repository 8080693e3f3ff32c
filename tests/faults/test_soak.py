"""Ten minutes of mixed load: memory, descriptors, threads and tasks, and Redis' keys, stay what they are."""

import asyncio
import os
import random
import statistics
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from sqlalchemy import make_url

from app.kit.aio import end_tasks
from app.kit.keys import Keys
from tests.application import CHEAP_PASSWORDS
from tests.commands import serving
from tests.databases import create_postgres
from tests.faults.served_soak import COUNT
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.postgres, pytest.mark.long]

SECONDS = int(os.environ.get("SOAK_SECONDS", "600"))
# Pools fill, caches of compiled statements and templates fill, accounts are made.
WARM_UP = 0.3
CALLERS = 10
STREAMS = 20
EXPECTED = {200, 201, 204, 404}
TOKEN = "a-token-of-the-metrics"
# Below the default limit of 20 requests a second.
PAUSE_SECONDS = 0.15
# Connections of the pools, which keep what they have opened (DATABASE_POOL_SIZE and Redis' own).
POOLED = 20
POOLED_TASKS = 4
# Of the memory after the warm-up, over the rest of the run: allocators keep some of what they were given.
MOST_GROWTH = 0.06


class Process:
    """What the kernel says of a process (proc(5))."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def memory_kib(self) -> int:
        return self._status("VmRSS")

    def threads(self) -> int:
        return self._status("Threads")

    def descriptors(self) -> int:
        return len(list((self._folder / "fd").iterdir()))

    def _status(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


class Mixed:
    """Callers and streams; each answer is counted by its status."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.answers: Counter[int] = Counter()
        self.events = 0

    async def call(self, number: int) -> None:
        """As one user: pages, lists, a notice with its event and task now and then, a new session."""
        random_, address = random.Random(number), {"X-Forwarded-For": f"10.1.0.{number}"}
        async with httpx.AsyncClient(base_url=self._base, timeout=60, headers=address) as client:
            account = {"email": f"user{number}@example.com", "name": "User", "password": "correct horse battery"}
            await self._ask(client, "POST", "/api/v1/users", json=account)
            credentials = {"email": account["email"], "password": account["password"]}
            turn = 0
            while True:
                if turn % 200 == 0:
                    login = await self._ask(client, "POST", "/api/v1/login", json=credentials)
                    session = {"X-Session-ID": login.json()["session_id"]}
                turn += 1
                path = random_.choice(["/", "/api/v1/notices", "/api/v1/users/1/notices", "/docs", "/none", "/login"])
                await self._ask(client, "GET", path)
                await self._ask(client, "GET", "/api/v1/profile", headers=session)
                if turn % 20 == 0:
                    notice = {"text": f"Notice {turn}"}
                    await self._ask(client, "POST", "/api/v1/notices", json=notice, headers=session)
                if turn % 200 == 0:
                    await self._ask(client, "POST", "/api/v1/logout", headers=session)
                await asyncio.sleep(PAUSE_SECONDS)

    async def follow(self, number: int) -> None:
        """A stream that is left and opened again."""
        async with httpx.AsyncClient(base_url=self._base, timeout=60) as client:
            while True:
                async with client.stream("GET", "/api/v1/events") as stream:
                    self.answers[stream.status_code] += 1
                    try:
                        async with asyncio.timeout(2 + number % 5):
                            async for line in stream.aiter_lines():
                                self.events += line.startswith("data:")
                    except TimeoutError:
                        pass

    async def _ask(self, client: httpx.AsyncClient, method: str, path: str, **options: object) -> httpx.Response:
        answer = await client.request(method, path, **options)  # type: ignore[arg-type]
        assert answer.status_code in EXPECTED, (method, path, answer.status_code, answer.text)
        self.answers[answer.status_code] += 1
        return answer


async def counts(process: Process, base: str) -> tuple[int, int]:
    """Descriptors, and tasks of asyncio."""
    async with httpx.AsyncClient() as client:
        return process.descriptors(), (await client.get(f"{base}{COUNT}")).json()


async def lasting_keys(redis: Redis, keys: Keys) -> set[bytes]:
    """Those that do not expire."""
    found = [key async for key in redis.scan_iter(match=f"*{keys.namespace}:*", count=1000)]
    return {key for key in found if await redis.pttl(key) == -1}


async def test_ten_minutes_of_mixed_load_leave_nothing_behind(
    redis_server: RedisServer, real_redis: Redis, keys: Keys, postgres_template: str, tmp_path: Path
) -> None:
    database = create_postgres(postgres_template, template=str(make_url(postgres_template).database))
    settings = CHEAP_PASSWORDS | {
        "REDIS_URL": redis_server.url,
        "NAMESPACE": keys.namespace,
        "DATABASE_URL": database,
        "TRUSTED_HOPS": "1",
        "METRICS_TOKEN": TOKEN,
        # A machine that is busy is no outage.
        "REDIS_BUDGET_MS": "10000",
        "LOG_LEVEL": "error",
    }
    with serving(settings, tmp_path, "-m", "tests.faults.served_soak") as (served, port):
        process, mixed = Process(served.pid), Mixed(base := f"http://127.0.0.1:{port}")
        at_start = await counts(process, base)
        samples: list[tuple[float, int]] = []
        running = [asyncio.create_task(mixed.call(number)) for number in range(CALLERS)]
        running += [asyncio.create_task(mixed.follow(number)) for number in range(STREAMS)]
        began = time.monotonic()
        at_first: set[bytes] = set()
        while (past := time.monotonic() - began) < SECONDS:
            await asyncio.sleep(SECONDS / 200)
            if past > SECONDS * WARM_UP:
                at_first = at_first or await lasting_keys(real_redis, keys)
                samples.append((past, process.memory_kib()))
            for ended in [each for each in running if each.done()]:
                ended.result()
        await end_tasks(running)
        assert mixed.events > 0
        slope, _ = statistics.linear_regression([at for at, _ in samples], [kib for _, kib in samples])
        growth = slope * SECONDS * (1 - WARM_UP) / samples[0][1]
        print(f"{mixed.answers} {samples[0]} {samples[-1]} growth {growth:.3f}")  # noqa: T201
        assert growth < MOST_GROWTH

        async def is_quiet() -> bool:
            async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
                metrics = await client.get(f"{base}/metrics")
            found = {
                (each.name, each.labels.get("place")): each.value
                for family in text_string_to_metric_families(metrics.text)
                for each in family.samples
            }
            # Not those of the schedule, which has one that is due for ever.
            waiting = [found["quartet_task_queue_depth", place] for place in ("high", "normal", "low", "running")]
            return not found["quartet_events_streams", None] and not any(waiting)

        await eventually(is_quiet, seconds=60)

        async def is_back() -> bool:
            descriptors, tasks = await counts(process, base)
            print(f"{at_start} {descriptors} {tasks}")  # noqa: T201
            return descriptors <= at_start[0] + POOLED and tasks <= at_start[1] + POOLED_TASKS

        await eventually(is_back, seconds=60)
        assert process.threads() < 60
        # A recurring task has a record of its own until it runs.
        assert len(await lasting_keys(real_redis, keys)) <= len(at_first) + 3
