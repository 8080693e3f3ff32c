"""Database: short sessions on the primary and on a replica. Reading and writing sessions differ in type."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import CursorResult, Executable, Row, literal, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.db.base import Base
from app.db.engine import open_engines
from app.db.failures import failure_of
from app.db.outage import Outage
from app.db.schema import Schema
from app.errors import Conflict, Unavailable, root_cause

LARGEST_ID = 2**63 - 1

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=Base)
Columns = TypeVarTuple("Columns")
AfterCommit = Callable[[], Awaitable[None]]


class ReadSession:
    """Reads only. Returned rows stay usable after it is closed."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, model: type[ModelT], key: int) -> ModelT | None:
        """The row with this id; None for an id out of range too."""
        return await self._session.get(model, key) if 0 < key <= LARGEST_ID else None

    async def scalar(self, statement: TypedReturnsRows[T]) -> T | None:
        """The first column of the first row."""
        return await self._session.scalar(statement)

    async def scalars(self, statement: TypedReturnsRows[T]) -> Sequence[T]:
        """The first column of every row."""
        return (await self._session.scalars(statement)).all()

    async def rows(self, statement: TypedReturnsRows[*Columns]) -> Sequence[Row[*Columns]]:
        return (await self._session.execute(statement)).all()


class WriteSession(ReadSession):
    """Reads and writes in one transaction, which only Database.write() commits."""

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session)
        self.after_commit: list[AfterCommit] = []

    def add(self, *rows: Base) -> None:
        self._session.add_all(rows)

    async def delete(self, row: Base) -> None:
        await self._session.delete(row)

    async def flush(self) -> None:
        """Send what was added or changed, so that new rows have their ids."""
        await self._session.flush()

    async def execute(self, statement: Executable, rows: Sequence[dict[str, Any]] | None = None) -> CursorResult[Any]:
        """Run an INSERT, UPDATE or DELETE, once for each of `rows`."""
        result = await self._session.execute(statement, rows)
        assert isinstance(result, CursorResult)  # noqa: S101  for the type checker: only a SELECT by ORM gives another
        return result


class Database:
    """Makes sessions. Connects at the first statement."""

    def __init__(
        self,
        url: str,
        replica_url: str | None = None,
        *,
        pool_size: int = 10,
        max_overflow: int = 20,
        connect_timeout_seconds: float = 5,
        statement_timeout_seconds: float = 10,
    ) -> None:
        connect = partial(
            open_engines,
            pool_size=pool_size,
            max_overflow=max_overflow,
            connect_timeout_seconds=connect_timeout_seconds,
            statement_timeout_seconds=statement_timeout_seconds,
        )
        primary = connect(url)
        replica = connect(replica_url) if replica_url else primary
        self._engines = {*primary, *replica}
        self._writing = async_sessionmaker(primary.writes, expire_on_commit=False)
        self._reading_primary = async_sessionmaker(primary.reads, expire_on_commit=False)
        self._reading = async_sessionmaker(replica.reads, expire_on_commit=False)
        self._primary = Outage("the database")
        self._replica = Outage("the database's replica") if replica_url else self._primary

    @asynccontextmanager
    async def read(self, *, primary: bool = False) -> AsyncIterator[ReadSession]:
        """A session on the replica if there is one. `primary=True` sees every commit: for checks, and to fill caches.

        Unavailable when the replica is down: its load does not go to the primary, on which writes depend.
        """
        sessions, outage = (self._reading_primary, self._primary) if primary else (self._reading, self._replica)
        async with _translated(outage), sessions() as session:
            yield ReadSession(session)
            # It began with the first statement. A block that asked nothing has learned nothing.
            if session.in_transaction():
                outage.answered()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """A transaction on the primary: committed at the end, rolled back on an exception.

        The session's `after_commit` callables are awaited after the commit, in order.
        """
        async with _translated(self._primary), self._writing() as session, session.begin():
            writing = WriteSession(session)
            yield writing
        self._primary.answered()
        for call in writing.after_commit:
            await call()

    async def missing_revisions(self, schema: Schema) -> set[str]:
        """The newest steps of `schema` that the primary has not taken. Unavailable if it, or the replica, is silent."""
        async with _translated(self._primary), self._reading_primary() as session:
            connection = await session.connection()
            missing = await connection.run_sync(schema.missing)
            self._primary.answered()
        if self._replica is not self._primary:
            async with self.read() as reading:
                await reading.scalar(select(literal(1)))
        return missing

    async def close(self) -> None:
        for engine in self._engines:
            await engine.dispose()


@asynccontextmanager
async def _translated(outage: Outage) -> AsyncIterator[None]:
    """Fails closed: a database that is down, or not migrated yet, is a 503, never a 500 and never an empty answer."""
    try:
        yield
    except Exception as error:
        failure = failure_of(error)
        # Only the class: the text may hold the URL's user and host. The driver's own says what is wrong.
        kind = type(root_cause(error)).__name__
        if failure == "down":
            outage.failed(kind)
            raise Unavailable("The database does not answer.") from error
        if failure == "behind":
            outage.failed(kind, "; its schema is behind this version: `quartet db upgrade` brings it up to date")
            raise Unavailable("The database is not ready for this version.") from error
        if failure == "collision":
            raise Conflict("The change collides with what is stored.") from error
        raise
