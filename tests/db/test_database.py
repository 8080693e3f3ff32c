"""Sessions, transactions, and what becomes of errors."""

import asyncio
import random
import shutil
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Integer, column, func, literal, make_url, select, table, text, update
from sqlalchemy.exc import DBAPIError, StatementError

from app.db.database import Database, ReadSession, WriteSession
from app.db.engine import open_engines
from app.db.failures import failure_of
from app.domain.users.models import ApiKey, User
from app.errors import Conflict, Unavailable
from tests.databases import create_postgres
from tests.waiting import eventually

BORN = datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=UTC)


def user(email: str = "ada@example.org", name: str = "Ada") -> User:
    return User(email=email, name=name, password_hash="x", roles=["editor"], created_at=BORN)


async def count(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(User)) or 0


async def test_write_commits_at_its_end(database: Database) -> None:
    async with database.write() as session:
        session.add(ada := user())
        await session.flush()
        assert await count(database) == 0
    async with database.read() as session:
        found = await session.get(User, ada.id)
    assert found is not None
    assert (found.email, found.roles, found.created_at) == ("ada@example.org", ["editor"], BORN)


async def test_write_rolls_back_on_an_exception(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.write() as session:
            session.add(user())
            await session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    assert await count(database) == 0


async def test_what_follows_a_commit_runs_after_it_and_not_after_a_rollback(database: Database) -> None:
    counts: list[int] = []

    async def note() -> None:
        counts.append(await count(database))

    async def write() -> None:
        async with database.write() as session:
            session.add(user())
            session.after_commit.append(note)

    await write()
    assert counts == [1]
    with pytest.raises(Conflict):
        await write()
    assert counts == [1]


async def test_only_a_write_session_writes(database: Database) -> None:
    async def create(session: WriteSession) -> None:
        session.add(user())

    async def read(session: ReadSession) -> list[tuple[str, str]]:
        return [(name, email) for name, email in await session.rows(select(User.name, User.email))]

    async with database.read() as session:
        with pytest.raises(AttributeError):
            await create(session)  # type: ignore[arg-type]  # mypy holds it: an ignore that is not needed fails
    async with database.write() as session:
        await create(session)
        assert await read(session) == [("Ada", "ada@example.org")]


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**30])
async def test_a_number_that_no_row_can_have_finds_none(database: Database, number: int) -> None:
    async with database.read() as session:
        assert await session.get(User, number) is None


async def test_parallel_writers_wait_for_each_other(database_url: str, database: Database) -> None:
    """Two Database objects: as in two processes, they share no pool."""
    async with database.write() as session:
        session.add(user(name="0"))

    async def add_one(through: Database) -> None:
        async with through.write() as session:
            ada = (await session.scalars(select(User).with_for_update()))[0]
            await session.execute(update(User).values(name=str(int(ada.name) + 1)))

    other = Database(database_url)
    await asyncio.gather(*(add_one(each) for each in (database, other) for _ in range(20)))
    await other.close()
    async with database.read() as reading:
        assert await reading.scalar(select(User.name)) == "40"


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    async with database.write() as session:
        session.add(user())
        await session.flush()
        async with asyncio.timeout(1):
            assert await asyncio.gather(*(count(database) for _ in range(20))) == [0] * 20


async def test_a_cancelled_writer_leaves_nothing_and_blocks_nobody(database: Database) -> None:
    begun = asyncio.Event()

    async def write_forever() -> None:
        async with database.write() as session:
            session.add(user())
            await session.flush()
            begun.set()
            await asyncio.Event().wait()

    writer = asyncio.create_task(write_forever())
    await begun.wait()
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    async with database.write() as session:
        session.add(user())
    assert await count(database) == 1


async def test_closing_waits_for_a_session_whose_caller_was_cancelled(database_url: str) -> None:
    """Its connection would be left open: a pool that was disposed closes none that comes back."""
    database = Database(database_url)
    started = asyncio.Event()
    numbers = "with recursive n(x) as (select 1 union all select x + 1 from n where x < 300000) select count(*) from n"

    async def read() -> None:
        async with database.read() as session:
            await session.scalar(select(1))
            started.set()
            await session.scalar(text(numbers))  # type: ignore[arg-type]

    reading = asyncio.create_task(read())
    await started.wait()
    reading.cancel()
    await database.close()
    assert reading.cancelled()


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.long)])
async def test_cancelled_writers_stop_no_other(database_url: str, rounds: int) -> None:
    """As by clients that go away in the middle of a request, at any statement."""
    database = Database(database_url, statement_timeout_seconds=60, pool_timeout_seconds=60)
    chance = random.Random(7)

    async def write(number: int) -> None:
        async with database.write() as session:
            session.add(user(f"{number}@example.org"))
            await session.flush()
            await session.scalar(select(func.count()).select_from(User))

    async def write_and_cancel(number: int) -> None:
        writer = asyncio.create_task(write(number))
        await asyncio.sleep(chance.uniform(0, 0.02))
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    for round in range(rounds):
        for start in range(round * 1000, round * 1000 + 200, 10):
            await asyncio.gather(*(write_and_cancel(start + number) for number in range(10)))
        # Far less than the time for which a lock is waited for.
        async with asyncio.timeout(20):
            await write(round * 1000 + 999)
    await database.close()


async def test_a_cancelled_reader_gives_its_connection_back(database_url: str) -> None:
    async with opened(database_url) as database:
        for _ in range(20):
            reader = asyncio.create_task(count(database))
            await asyncio.sleep(0)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            # The pool has one connection.
            assert await count(database) == 0


async def test_what_has_begun_to_commit_is_told_although_its_caller_is_cancelled(database: Database) -> None:
    told, committing = asyncio.Event(), asyncio.Event()

    async def tell() -> None:
        committing.set()
        await asyncio.sleep(0)
        told.set()

    async def write() -> None:
        async with database.write() as session:
            session.add(user())
            session.after_commit.append(tell)

    writer = asyncio.create_task(write())
    await committing.wait()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert told.is_set()
    assert await count(database) == 1


async def test_a_locked_file_is_waited_for_no_longer_than_the_busy_timeout(
    sqlite_template: Path, tmp_path: Path
) -> None:
    path = shutil.copy(sqlite_template, tmp_path / "locked.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with opened(f"sqlite+aiosqlite:///{path}", statement_timeout_seconds=0.2) as database:
            for _ in range(3):
                async with asyncio.timeout(10):
                    with pytest.raises(Unavailable):
                        async with database.write() as session:
                            await session.scalar(select(User.id))
            other.execute("ROLLBACK")
            async with database.write() as session:
                session.add(user())
            assert await count(database) == 1


async def test_a_collision_is_a_conflict(database: Database) -> None:
    async with database.write() as session:
        session.add(user())
    with pytest.raises(Conflict):
        async with database.write() as session:
            session.add(user(name="Another"))
    with pytest.raises(Conflict):  # the user is gone
        async with database.write() as session:
            session.add(ApiKey(user_id=99, name="k", key_hash="h", created_at=BORN))


async def test_a_defect_stays_one_and_hides_its_parameters(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with database.write() as session:
            await session.execute(text("INSERT INTO users (name) VALUE (:secret)"), [{"secret": "hunter2"}])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("missing", ["SELECT 1 FROM nowhere", "SELECT shoe_size FROM users"])
async def test_a_schema_that_is_behind_is_unavailable(database: Database, missing: str) -> None:
    with pytest.raises(Unavailable):
        async with database.write() as session:
            await session.execute(text(missing))


async def test_times_come_back_in_utc(database: Database) -> None:
    elsewhere = BORN.astimezone(timezone(timedelta(hours=5, minutes=30)))
    async with database.write() as session:
        session.add(User(email="e", name="n", password_hash="x", created_at=elsewhere))
    async with database.read() as session:
        found = await session.scalar(select(User.created_at).where(User.created_at == elsewhere))
    assert found == BORN
    assert found.tzinfo is UTC
    with pytest.raises(StatementError, match="without a zone"):
        async with database.write() as session:
            session.add(User(email="f", name="n", password_hash="x", created_at=datetime(2024, 1, 1)))


async def test_numbers_of_deleted_rows_are_not_given_again(database: Database) -> None:
    async with database.write() as session:
        session.add(ada := user())
    async with database.write() as session:
        found = await session.get(User, ada.id)
        assert found is not None
        await session.delete(found)
    async with database.write() as session:
        session.add(grace := user("grace@example.org"))
    assert grace.id > ada.id


async def test_reads_go_to_the_replica(tmp_path: Path, sqlite_template: Path) -> None:
    copies = [shutil.copy(sqlite_template, tmp_path / name) for name in ("primary.db", "replica.db")]
    database = Database(*(f"sqlite+aiosqlite:///{copy}" for copy in copies))
    async with database.write() as session:
        session.add(user())
    assert await count(database) == 0
    async with database.read(primary=True) as session:
        assert await session.scalar(select(User.name)) == "Ada"
    await ping(database)
    await database.close()


async def ping(database: Database) -> None:
    for primary in (True, False):
        async with database.read(primary=primary) as session:
            await session.scalar(select(literal(1)))


@asynccontextmanager
async def opened(url: str, *, statement_timeout_seconds: float = 5) -> AsyncIterator[Database]:
    database = Database(
        url,
        pool_size=1,
        max_overflow=0,
        pool_timeout_seconds=0.3,
        connect_timeout_seconds=0.3,
        statement_timeout_seconds=statement_timeout_seconds,
    )
    yield database
    await database.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        async with opened(f"postgresql+asyncpg://u@127.0.0.1:{taken.getsockname()[1]}/d") as database:
            with pytest.raises(Unavailable):
                await ping(database)


async def test_a_server_that_is_silent_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with opened(f"postgresql+asyncpg://u@127.0.0.1:{silent.getsockname()[1]}/d") as database:
            with pytest.raises(Unavailable):
                await ping(database)


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    threads = threading.active_count()
    (tmp_path / "poem.db").write_text("Shall I compare thee to a summer's day? " * 100)
    for name in ("poem.db", ""):  # the latter is a folder
        async with opened(f"sqlite+aiosqlite:///{tmp_path}/{name}") as database:
            with pytest.raises(Unavailable):
                await ping(database)
    # The driver's thread of a connection that failed ends by itself, and reports to the loop, which must be there.
    await eventually(lambda: threading.active_count() == threads)


async def test_waiting_for_a_connection_ends(database_url: str) -> None:
    async with opened(database_url) as database, database.write() as session:
        await session.scalar(select(func.count()).select_from(User))
        with pytest.raises(Unavailable):
            async with database.write() as another:
                await another.scalar(select(func.count()).select_from(User))


def test_sqlite_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a file"):
        Database("sqlite+aiosqlite:///:memory:")


@pytest.mark.postgres
async def test_a_database_that_refuses_us_is_unavailable(postgres_url: str) -> None:
    for refused in (postgres_url + "x", postgres_url.replace("quartet@", "nobody@")):
        async with opened(refused) as database:
            with pytest.raises(Unavailable):
                await ping(database)


@pytest.mark.postgres
async def test_a_role_without_rights_and_a_standby_are_unavailable(postgres_url: str, postgres_template: str) -> None:
    url = create_postgres(postgres_template, template=str(make_url(postgres_template).database))
    async with opened(url) as owner:
        async with owner.write() as session:
            await session.execute(text("CREATE ROLE visitor LOGIN"))
        visitor = make_url(url).set(username="visitor").render_as_string(hide_password=False)
        async with opened(visitor) as database:
            with pytest.raises(Unavailable):
                await count(database)
            with pytest.raises(Unavailable):
                async with database.write() as session:
                    session.add(user())

        async def write_as_on_a_standby() -> None:
            async with owner.write() as session:
                await session.execute(text("SET TRANSACTION READ ONLY"))
                session.add(user())

        with pytest.raises(Unavailable):
            await write_as_on_a_standby()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY_DIRECTORY])
def test_sqlite_without_rights_is_down(code: int) -> None:
    refused = sqlite3.OperationalError("not authorized")
    refused.sqlite_errorcode = code
    assert failure_of(DBAPIError("SELECT 1", None, refused)) == "down"


@pytest.mark.postgres
async def test_a_slow_statement_is_ended(postgres_url: str) -> None:
    async with opened(postgres_url, statement_timeout_seconds=0.3) as database:
        with pytest.raises(Unavailable):
            async with database.write() as session:
                await session.execute(text("SELECT pg_sleep(10)"))
        await ping(database)


@pytest.mark.postgres
async def test_a_plan_is_made_for_the_parameters_of_each_execution(postgres_url: str) -> None:
    async with opened(postgres_url) as database, database.read() as session:
        # PostgreSQL considers a plan for any parameters from the sixth execution on.
        for limit in range(10):
            await session.rows(select(func.generate_series(1, 5)).limit(limit))
        used = column("generic_plans", Integer), column("custom_plans", Integer)
        prepared = select(*used).select_from(table("pg_prepared_statements")).where(text("statement ~ 'generate[_]'"))
        assert await session.rows(prepared) == [(0, 10)]


@pytest.mark.postgres
async def test_connections_that_the_server_ended_are_replaced(postgres_url: str) -> None:
    engine = open_engines(
        postgres_url, pool_size=1, max_overflow=0, connect_timeout_seconds=5, statement_timeout_seconds=5
    ).writes
    kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    async with opened(postgres_url) as database:
        await ping(database)

        async def write_while_the_server_ends() -> None:
            async with database.write() as session:
                await session.scalar(select(func.now()))
                async with engine.begin() as operator:
                    await operator.execute(kill)
                await session.scalar(select(func.now()))

        with pytest.raises(Unavailable):
            await write_while_the_server_ends()
        await ping(database)
    await engine.dispose()
