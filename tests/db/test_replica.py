"""Reads on a real streaming replica: who reads where, and what happens while it lags or is down."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, make_url, select, text

from app.db.database import Database
from app.domain.users.models import User
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry
from app.migrations import upgrade
from app.principal import current_user_id
from app.recent_writers import RecentWriters
from tests.db.test_database import user
from tests.services import binary, end, free_port, postgres, wait_until_listening
from tests.waiting import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.server]


class Standby:
    """A streaming replica of a server, made by pg_basebackup."""

    def __init__(self, primary_url: str) -> None:
        primary = make_url(primary_url)
        self.folder = Path(tempfile.mkdtemp(prefix="quartet-standby-"))
        self.port = free_port()
        self.url = primary.set(port=self.port).render_as_string(hide_password=False)
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        else:
            self._as_user = []
        copy = [binary("pg_basebackup"), "-h", "127.0.0.1", "-p", str(primary.port), "-U", str(primary.username)]
        to = ["-D", str(self.folder / "data"), "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        subprocess.run([*self._as_user, *copy, *to], check=True, capture_output=True, cwd=self.folder)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        server = [binary("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1"]
        self.process = subprocess.Popen(
            [*self._as_user, *server, "-k", str(self.folder), "-F"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
        )
        wait_until_listening(self.port, self.process)

    def stop(self) -> None:
        if self.process:
            end(self.process, with_signal=signal.SIGINT)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, Standby]]:
    with postgres() as primary:
        upgrade(primary)
        standby = Standby(primary)
        standby.start()
        yield primary, standby
        standby.close()


@pytest.fixture
async def database(servers: tuple[str, Standby], real_redis: Redis, keys: Keys) -> AsyncIterator[Database]:
    primary, standby = servers
    writers = RecentWriters(real_redis, keys, seconds=30, telemetry=NoTelemetry())
    opened = Database(primary, standby.url, writers=writers)
    async with opened.write() as session:
        await session.execute(text("DELETE FROM users"))
    await eventually(lambda: is_standby(opened), seconds=30)
    yield opened
    await opened.close()


async def is_standby(database: Database, *, primary: bool = False) -> bool:
    """Whether a read is answered by the replica."""
    async with database.read(primary=primary) as session:
        return bool(await session.scalar(select(func.pg_is_in_recovery())))


async def count(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(User)) or 0


async def test_reads_go_to_the_replica_and_follow_the_primary(database: Database) -> None:
    async with database.write() as session:
        session.add(user())
    assert await is_standby(database)
    assert not await is_standby(database, primary=True)
    assert await eventually(lambda: count(database), seconds=30) == 1


async def test_who_has_just_written_reads_the_primary(database: Database) -> None:
    token = current_user_id.set(7)
    try:
        assert await is_standby(database)
        async with database.write() as session:
            session.add(user("seven@example.org"))
        assert not await is_standby(database)
        assert await count(database) == 1
    finally:
        current_user_id.reset(token)
    other = current_user_id.set(8)
    assert await is_standby(database)
    current_user_id.reset(other)
    assert await is_standby(database)


async def test_a_replica_that_lags_shows_its_writer_the_write(database: Database, servers: tuple[str, Standby]) -> None:
    _, standby = servers
    replaying = Database(standby.url)
    async with replaying.read() as session:
        await session.scalar(select(text("pg_wal_replay_pause()")))
    try:
        token = current_user_id.set(9)
        async with database.write() as session:
            session.add(user("nine@example.org"))
        assert await count(database) == 1
        current_user_id.reset(token)
        assert await count(database) == 0
    finally:
        async with replaying.read() as session:
            await session.scalar(select(text("pg_wal_replay_resume()")))
        await replaying.close()


@pytest.mark.parametrize("how", ["stopped", "silent"])
async def test_while_the_replica_is_down_the_primary_is_read(
    database: Database, servers: tuple[str, Standby], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, standby = servers
    assert await is_standby(database)
    assert standby.process
    halted = [standby.process.pid, *children_of(standby.process.pid)]
    if how == "stopped":
        standby.stop()
    else:
        for pid in halted:
            os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            answers = await asyncio.gather(*(is_standby(database) for _ in range(20)), return_exceptions=True)
            # A read that was already on the replica may fail; each new one is answered by the primary.
            assert [answer for answer in answers if answer is True] == []
            assert [await is_standby(database) for _ in range(20)] == [False] * 20
            assert await database.replica_answers() is False
    finally:
        if how == "stopped":
            standby.start()
        else:
            for pid in halted:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
    assert await eventually(lambda: is_standby(database), seconds=30)
    assert len([line for line in caplog.messages if line.startswith("the database's replica is unavailable")]) <= 3


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(each) for each in found.stdout.split()]
