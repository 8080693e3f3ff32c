"""The statements that reach the database, how many they are, and how the database plans them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import create_async_engine

# What ends a transaction or begins one is none; the relay of the outbox works beside the request.
_NOT_COUNTED = re.compile(r"BEGIN|PRAGMA|SELECT pg_catalog|(?:DELETE FROM|UPDATE|WITH \w+ AS\s+\(SELECT) outbox")
_FULL_SCANS = re.compile(r"Seq Scan on (\w+)|SCAN (\w+)\b(?! USING)")
_SORTS = re.compile(r"Sort Key|USE TEMP B-TREE")


class Statement(NamedTuple):
    text: str
    parameters: Any


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """The statements of all connections of this process during the block, in their order."""
    found: list[Statement] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not _NOT_COUNTED.match(statement):
            found.append(Statement(statement, parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", record)


async def plans(database_url: str, statements: list[Statement]) -> dict[str, str]:
    """The plan of each SELECT by its text, after the statistics were brought up to date.

    PostgreSQL reads and sorts small tables as a whole, whatever index they have: here only where it must.
    """
    engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT")
    sqlite = database_url.startswith("sqlite")
    found = {}
    async with engine.connect() as connection:
        await connection.exec_driver_sql("ANALYZE")
        for way in () if sqlite else ("seqscan", "bitmapscan", "sort"):
            await connection.exec_driver_sql(f"SET enable_{way} = off")
        for text, parameters in statements:
            if text.startswith("SELECT"):
                command = f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{text}"
                rows = await connection.exec_driver_sql(command, tuple(parameters))
                found[text] = "\n".join(str(row[-1]) for row in rows)
    await engine.dispose()
    return found


def full_scans(plan: str) -> list[str]:
    """The tables that a plan reads from end to end without an index. A subquery is none."""
    names = [first or second for first, second in _FULL_SCANS.findall(plan)]
    return [name for name in names if not name.startswith("anon_")]


def sorts(plan: str) -> bool:
    """Whether a plan sorts rows that no index has in order."""
    return _SORTS.search(plan) is not None
