"""open_engines(): connections to PostgreSQL or SQLite with bounded waits."""

from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.db.url import postgres_arguments
from app.errors import Unavailable


class Engines(NamedTuple):
    """The engines of one database: for transactions that write, and for statements that read."""

    writes: AsyncEngine
    reads: AsyncEngine


class EngineOptions(TypedDict, total=False):
    """Sizes and waits of a process's connections to one database; see docs/settings.md."""

    pool_size: int
    max_overflow: int
    pool_timeout_seconds: float
    connect_timeout_seconds: float
    statement_timeout_seconds: float
    pre_ping: bool


def open_engines(
    url: str,
    *,
    pool_size: int = 10,
    max_overflow: int = 20,
    pool_timeout_seconds: float = 5,
    connect_timeout_seconds: float = 5,
    statement_timeout_seconds: float = 10,
    pre_ping: bool = True,
) -> Engines:
    """Engines that connect at their first use.

    Unavailable where the folder of a SQLite file cannot be made.
    """
    address = make_url(url)
    options: dict[str, Any] = {
        "pool_timeout": pool_timeout_seconds,
        "hide_parameters": True,  # they hold password hashes and personal data, and errors are logged
    }
    sizes = {"pool_size": pool_size, "max_overflow": max_overflow}
    if address.get_backend_name() == "sqlite":
        make_folder(url)
        # The time for which SQLite waits for a lock.
        options["connect_args"] = {"timeout": statement_timeout_seconds, "isolation_level": None}
        return _sqlite(address, options, sizes)
    address, connect = postgres_arguments(address)
    options["connect_args"] = _with_bounds(connect, connect_timeout_seconds, statement_timeout_seconds)
    engine = create_async_engine(address, pool_pre_ping=pre_ping, **options, **sizes)
    # At READ COMMITTED a single statement sees the same without a transaction, which saves two of three round trips
    # (BEGIN and ROLLBACK).
    return Engines(engine, engine.execution_options(isolation_level="AUTOCOMMIT"))


def _with_bounds(
    arguments: dict[str, Any], connect_timeout_seconds: float, statement_timeout_seconds: float
) -> dict[str, Any]:
    """The arguments of the URL go before the settings."""
    milliseconds = str(int(statement_timeout_seconds * 1000))
    return {
        "timeout": connect_timeout_seconds,
        # The server ends a slow statement; this later deadline is for a server that does not answer.
        "command_timeout": statement_timeout_seconds + 1,
        **arguments,
        "server_settings": {
            "application_name": "quartet",
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            # A plan for any parameters, which PostgreSQL makes of a statement at its sixth execution, takes a tenth of
            # all rows for every LIMIT: a page of 20 from 100,000 rows then took 25 ms in place of 0.3.
            "plan_cache_mode": "force_custom_plan",
            **arguments.get("server_settings", {}),
        },
    }


def make_folder(url: str) -> None:
    """The folder of a SQLite file, where `url` names one. Unavailable where it cannot be made."""
    if not url.startswith("sqlite"):
        return
    address = make_url(url)
    if not address.database or address.database == ":memory:":
        raise ValueError("SQLite needs a file: in memory each connection would see a database of its own")
    folder = Path(address.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"The database's folder {folder} cannot be made: {error.strerror}.") from error


def _sqlite(address: URL, options: dict[str, Any], sizes: dict[str, int]) -> Engines:
    # SQLite has one writer at a time. The writers of one process queue for one connection: SQLite's own busy wait made
    # the 99th percentile of 40 concurrent writers ten times as long.
    writes = create_async_engine(address, pool_size=1, max_overflow=0, **options)
    reads = create_async_engine(address, **sizes, **options)
    for engine in (writes, reads):
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(writes.sync_engine, "begin", _begin_immediate)
    return Engines(writes, reads)


def _configure_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not block each other
    cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL a power cut may lose the last commits, never the file
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at the begin, and wait for it while another process holds it.

    A transaction that reads first and writes later fails at its first write, without waiting, when another has
    written meanwhile (sqlite.org/lang_transaction.html). Reading needs no transaction: `isolation_level` None begins
    none.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")
