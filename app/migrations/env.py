"""Run by Alembic for each command: connects, locks out other nodes, and migrates in one transaction."""

import asyncio
from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, text

from app.db.base import Base, UtcDateTime
from app.db.engine import open_engines
from app.db.outbox import OutboxRow
from app.domain.slices import SLICES

# The metadata holds the tables whose modules are imported: these are all.
TABLES = (OutboxRow, *(table for each in SLICES for table in each.tables))
UNMAPPED = tuple(name for each in SLICES for name in each.unmapped)
# Any number that no other program locks in this database; PostgreSQL's advisory locks have no names.
LOCK = 5_177_318
# A migration may rewrite a large table.
STATEMENT_TIMEOUT_SECONDS = 3600


async def migrate() -> None:
    engine = open_engines(
        context.config.attributes["database_url"],
        pool_size=1,
        max_overflow=0,
        connect_timeout_seconds=10,
        statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS,
    ).writes
    try:
        async with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Held to the end of the transaction. On SQLite BEGIN IMMEDIATE does the same.
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            await connection.run_sync(run)
    finally:
        await engine.dispose()


def run(connection: Connection) -> None:
    """All missing migrations in the transaction that migrate() began, or none."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        render_as_batch=True,  # SQLite alters a table by copying it
        render_item=render,
        include_name=is_mapped,
    )
    context.run_migrations()


def is_mapped(name: str | None, kind: str, _parents: object) -> bool:
    """Whether a model describes it: the index of a full-text search is written by hand."""
    return kind != "table" or not (name or "").startswith(UNMAPPED)


def render(kind: str, item: object, _autogenerate: AutogenContext) -> str | Literal[False]:
    """How a new migration spells a type. It must not import the models, which change later."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


asyncio.run(migrate())
