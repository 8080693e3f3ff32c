"""Redis fails over by Sentinel, and PostgreSQL by hand, under load: a node goes on by itself and loses nothing."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest

from app.kit.aio import end_tasks
from app.migrations import upgrade
from tests.application import CHEAP_PASSWORDS
from tests.commands import serving
from tests.db.test_replica import Standby
from tests.deployments import SentinelDeployment
from tests.services import PostgresServer
from tests.test_operations_guide import run_example
from tests.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.postgres, pytest.mark.long]

CALLERS = 8
BUDGET_MS = 250
# Redis' budget, the pool's and the connect's time, and a loaded machine.
LONGEST_SECONDS = 15
# Redis replicates asynchronously: what it confirmed in the last moment before a crash may be lost.
UNREPLICATED_SECONDS = 1


@dataclass
class Node:
    base: str
    sentinels: SentinelDeployment
    primary: PostgresServer
    standby: Standby


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    (folder := tmp_path / "sentinel").mkdir()
    sentinels = SentinelDeployment(folder).start()
    primary = PostgresServer()
    standby = None
    try:
        upgrade(primary.start().create_database().url)
        standby = Standby(primary.url)
        standby.start()
        asyncio.run(_synchronous(primary))
        hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
        settings = CHEAP_PASSWORDS | {
            "REDIS_URL": sentinels.url,
            "REDIS_BUDGET_MS": str(BUDGET_MS),
            "DATABASE_URL": f"postgresql+asyncpg://quartet@/quartet?{hosts}&target_session_attrs=primary",
            "DATABASE_POOL_TIMEOUT_SECONDS": "2",
            "DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
            "TASK_LEASE_SECONDS": "3",
            "LOG_LEVEL": "warning",
            "TRUSTED_HOPS": "1",
        }
        with serving(settings, tmp_path, "-m", "app.cli", "serve") as (_, port):
            yield Node(f"http://127.0.0.1:{port}", sentinels, primary, standby)
    finally:
        sentinels.stop()
        if standby is not None:
            standby.close()
        primary.close()


async def _synchronous(primary: PostgresServer) -> None:
    """A commit is confirmed once the replica has it."""
    connection = await _connect(primary.port)
    await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await connection.execute("SELECT pg_reload_conf()")

    async def is_synchronous() -> bool:
        return "sync" in [row[0] for row in await connection.fetch("SELECT sync_state FROM pg_stat_replication")]

    await eventually(is_synchronous, seconds=30)
    await connection.close()


async def _connect(port: int) -> asyncpg.Connection:
    return await asyncpg.connect(host="127.0.0.1", port=port, user="quartet", database="quartet")


@dataclass
class Load:
    """Callers that write articles one after the other: what was accepted, and when."""

    base: str
    accepted: dict[int, float] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    longest_seconds: float = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=f"{self.base}/api/v1", timeout=60) as client:
            account = {"email": "ada@example.com", "name": "Ada", "password": "correct horse battery"}
            assert (await client.post("/users", json=account)).status_code == 201
            login = await client.post("/login", json={key: account[key] for key in ("email", "password")})
            session = {"X-Session-ID": login.json()["session_id"]}
            callers = [asyncio.create_task(self._write(client, session, number)) for number in range(CALLERS)]
            try:
                yield
            finally:
                await end_tasks(callers)
            # The session that was made before is still one.
            assert (await client.get("/profile", headers=session)).status_code == 200

    async def goes_on(self) -> None:
        """Each caller, or as many, has been accepted again."""
        before = len(self.accepted)
        await eventually(lambda: len(self.accepted) > before + 3 * CALLERS, seconds=60)

    async def _write(self, client: httpx.AsyncClient, session: dict[str, str], number: int) -> None:
        while True:
            began = time.monotonic()
            # An address each time: the limit is not what is tested.
            headers = session | {"X-Forwarded-For": f"10.0.0.{number}"}
            answer = await client.post(
                "/articles", json={"title": "A title", "content": "Some words."}, headers=headers
            )
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
            self.answers[answer.status_code] += 1
            if answer.status_code == 201:
                self.accepted[answer.json()["id"]] = time.monotonic()
            else:
                await asyncio.sleep(0.05)


async def _kept(port: int) -> tuple[set[int], set[int]]:
    """The articles there are, and those whose task was done."""
    connection = await _connect(port)
    try:
        rows = await connection.fetch("SELECT id, version, processed_version FROM articles")
        return {row["id"] for row in rows}, {row["id"] for row in rows if row["processed_version"] == row["version"]}
    finally:
        await connection.close()


async def test_redis_fails_over_and_postgresql_is_promoted_under_load(node: Node, tmp_path: Path) -> None:
    load = Load(node.base)
    async with load.running():
        await load.goes_on()
        killed = time.monotonic()
        node.sentinels.primary.kill()
        await load.goes_on()
        node.primary.stop(with_signal=signal.SIGQUIT)
        variables = {"REPLICA_HOST": "127.0.0.1", "REPLICA_PORT": str(node.standby.port), "PGUSER": "quartet"}
        await asyncio.to_thread(run_example, "promote the replica", tmp_path, PGDATABASE="quartet", **variables)
        await load.goes_on()
    assert set(load.answers) <= {201, 503}, load.answers
    assert load.longest_seconds < LONGEST_SECONDS
    there, _ = await _kept(node.standby.port)
    assert load.accepted.keys() <= there
    at_risk = {each for each, at in load.accepted.items() if killed - UNREPLICATED_SECONDS < at <= killed}

    async def all_processed() -> bool:
        _, done = await _kept(node.standby.port)
        return load.accepted.keys() - at_risk <= done

    await eventually(all_processed, seconds=60)
