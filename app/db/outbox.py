"""The outbox's table: messages that were committed and are not yet sent."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Text, delete, select, update
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Id, Moment, now
from app.db.database import WriteSession


class OutboxRow(Base):
    """A message to be sent by any node that finds it due; `attempts` counts the failed ones."""

    __tablename__ = "outbox"

    id: Mapped[Id]
    message: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[Moment] = mapped_column(index=True)


class Waiting(NamedTuple):
    """A committed row."""

    id: int
    message: str
    attempts: int = 0


def create_row(session: WriteSession, message: str, *, due_in: timedelta) -> OutboxRow:
    session.add(row := OutboxRow(message=message, attempts=0, due_at=now() + due_in))
    return row


async def claim_due(session: WriteSession, *, limit: int, lease: timedelta) -> Sequence[Waiting]:
    """The oldest rows that are due, which are due again for another claim only after `lease`.

    Nodes that claim at the same time get different rows. Sorted by id.
    """
    moment = now()
    # A CTE is evaluated once, whatever plan PostgreSQL takes for the update.
    due = (
        select(OutboxRow.id)
        .where(OutboxRow.due_at <= moment)
        .order_by(OutboxRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte()
    )
    claim = (
        update(OutboxRow)
        .where(OutboxRow.id.in_(select(due.c.id)))
        .values(due_at=moment + lease)
        .returning(OutboxRow.id, OutboxRow.message, OutboxRow.attempts)
    )
    return sorted(Waiting(*row) for row in await session.rows(claim))


async def postpone_row(session: WriteSession, row: Waiting, *, pause: timedelta) -> None:
    """Count a failed attempt; the row is due again after `pause`."""
    changes = {"attempts": row.attempts + 1, "due_at": now() + pause}
    await session.execute(update(OutboxRow).where(OutboxRow.id == row.id).values(changes))


async def delete_rows(session: WriteSession, ids: Collection[int]) -> None:
    await session.execute(delete(OutboxRow).where(OutboxRow.id.in_(ids)))
