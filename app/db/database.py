"""Database: short sessions on the primary and on a replica. Reading and writing sessions differ in type."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, TypeVarTuple, Unpack

from sqlalchemy import CursorResult, Executable, Row
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.db.base import Base
from app.db.engine import EngineOptions, open_engines
from app.db.outage import Outage, translated
from app.db.replica import Replica, Writers
from app.db.schema import Schema
from app.errors import Unavailable
from app.kit.aio import finished

logger = logging.getLogger(__name__)

LARGEST_ID = 2**63 - 1
# How long close() waits for sessions whose callers were cancelled in a statement.
CLOSE_SECONDS = 2.0

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=Base)
Columns = TypeVarTuple("Columns")
AfterCommit = Callable[[], Awaitable[None]]


class ReadSession:
    """Reads only. Returned rows stay usable after it is closed."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @property
    def dialect(self) -> str:
        """The kind of database: `sqlite` or `postgresql`."""
        return self._session.get_bind().dialect.name

    async def get(self, model: type[ModelT], key: int) -> ModelT | None:
        """The row with this id; None for an id out of range too."""
        return await finished(self._session.get(model, key)) if 0 < key <= LARGEST_ID else None

    async def scalar(self, statement: TypedReturnsRows[T]) -> T | None:
        """The first column of the first row."""
        return await finished(self._session.scalar(statement))

    async def scalars(self, statement: TypedReturnsRows[T]) -> Sequence[T]:
        """The first column of every row."""
        return (await finished(self._session.scalars(statement))).all()

    async def rows(self, statement: TypedReturnsRows[*Columns]) -> Sequence[Row[*Columns]]:
        return (await finished(self._session.execute(statement))).all()


class WriteSession(ReadSession):
    """Reads and writes in one transaction, which only Database.write() commits."""

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session)
        self.after_commit: list[AfterCommit] = []

    def add(self, *rows: Base) -> None:
        self._session.add_all(rows)

    async def delete(self, row: Base) -> None:
        await finished(self._session.delete(row))

    async def flush(self) -> None:
        """Send what was added or changed, so that new rows have their ids."""
        await finished(self._session.flush())

    async def execute(self, statement: Executable, rows: Sequence[dict[str, Any]] | None = None) -> CursorResult[Any]:
        """Run an INSERT, UPDATE or DELETE, once for each of `rows`."""
        result = await finished(self._session.execute(statement, rows))
        assert isinstance(result, CursorResult)  # noqa: S101  for the type checker: only a SELECT by ORM gives another
        return result


class Database:
    """Makes sessions. Connects at the first statement."""

    def __init__(
        self,
        url: str,
        replica_url: str | None = None,
        *,
        writers: Writers | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        """`writers` says who reads the primary although there is a replica. `options` hold for each of the two."""
        primary = open_engines(url, **options)
        self._engines = {"primary": primary}
        self._writing = async_sessionmaker(primary.writes, expire_on_commit=False)
        self._reading = async_sessionmaker(primary.reads, expire_on_commit=False)
        self._primary = Outage("the database")
        self._writers = writers
        self._replica: Replica | None = None
        self._sessions = 0
        self._session_ended = asyncio.Event()
        if replica_url:
            replica = open_engines(replica_url, **options)
            self._engines["replica"] = replica
            self._replica = Replica(async_sessionmaker(replica.reads, expire_on_commit=False), writers)

    @asynccontextmanager
    async def read(self, *, primary: bool = False) -> AsyncIterator[ReadSession]:
        """A session on the replica if there is one. `primary=True` sees every commit: for checks, and to fill caches.

        The primary is read too by a principal who has just written, and while the replica does not answer.
        """
        with self._counted():
            async with self._read(primary=primary) as session:
                yield session

    @asynccontextmanager
    async def _read(self, *, primary: bool) -> AsyncIterator[ReadSession]:
        outage = self._primary
        session = await self._replica.open() if self._replica and not primary else None
        if session is None:
            session = self._reading()
        elif self._replica:
            outage = self._replica.outage
        try:
            async with translated(outage):
                yield ReadSession(session)
                # It began with the first statement. A block that asked nothing has learned nothing.
                if session.in_transaction():
                    outage.answered()
        except Unavailable as error:
            if self._replica and outage is self._replica.outage:
                self._replica.failed(error)
            raise
        finally:
            await finished(session.close())

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """A transaction on the primary: committed at the end, rolled back on an exception.

        The session's `after_commit` callables are awaited after the commit, in order. Cancelling the caller ends the
        transaction between two statements; what has begun to commit is committed, and its `after_commit` run.
        """
        session = self._writing()
        writing = WriteSession(session)
        with self._counted():
            try:
                async with translated(self._primary):
                    yield writing
            except BaseException:
                await finished(session.close())
                raise
            await finished(self._commit(session, writing.after_commit))

    async def _commit(self, session: AsyncSession, after_commit: Sequence[AfterCommit]) -> None:
        async with translated(self._primary):
            try:
                await session.commit()
            finally:
                await session.close()
        self._primary.answered()
        if self._replica and self._writers:
            await self._writers.note()
        for call in after_commit:
            await call()

    async def missing_revisions(self, schema: Schema) -> set[str]:
        """The newest steps of `schema` that the primary has not taken. Unavailable if it is silent."""
        session = self._reading()
        with self._counted():
            try:
                async with translated(self._primary):
                    missing = await finished(_missing(session, schema))
                    self._primary.answered()
                    return missing
            finally:
                await finished(session.close())

    async def replica_answers(self) -> bool | None:
        """Whether reads go to the replica; None where there is none."""
        if self._replica is None:
            return None
        with self._counted():
            session = await self._replica.connect()
            if session is not None:
                await finished(session.close())
        return session is not None

    def pool_use(self) -> dict[str, tuple[int, int]]:
        """Of `primary` and, where there is one, `replica`: the connections in use, and the idle ones."""
        used = {}
        for name, engines in self._engines.items():
            # Two engines of one database may share a pool.
            pools = [pool for pool in {engine.pool for engine in engines} if isinstance(pool, QueuePool)]
            used[name] = (sum(pool.checkedout() for pool in pools), sum(pool.checkedin() for pool in pools))
        return used

    def engines(self) -> list[AsyncEngine]:
        """Those of the primary and of the replica, by whose events each statement is seen once."""
        # Two of one pool differ in options alone: what happens in `reads` is an event of `writes` too.
        pairs = self._engines.values()
        return [pair.writes for pair in pairs] + [
            pair.reads for pair in pairs if pair.reads.pool is not pair.writes.pool
        ]

    async def close(self) -> None:
        """Wait for the sessions that are open, a moment at most, and disconnect: one used longer is not closed."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._sessions:
                    self._session_ended.clear()
                    await self._session_ended.wait()
        except TimeoutError:
            logger.warning("%d database sessions did not end in time", self._sessions)
        for engine in self.engines():
            await engine.dispose()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1
            self._session_ended.set()


async def _missing(session: AsyncSession, schema: Schema) -> set[str]:
    connection = await session.connection()
    return await connection.run_sync(schema.missing)
