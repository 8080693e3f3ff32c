"""The SQL of messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import aliased

from app.db.database import ReadSession, WriteSession
from app.domain.messages.models import Message
from app.domain.users.models import User

Box = Literal["inbox", "sent"]


async def create_message(session: WriteSession, message: Message) -> None:
    """Sets the message's id."""
    session.add(message)
    await session.flush()


async def get_message(session: ReadSession, message_id: int) -> Message | None:
    return await session.get(Message, message_id)


async def has_user(session: ReadSession, user_id: int) -> bool:
    return await session.scalar(select(User.id).where(User.id == user_id)) is not None


async def list_messages(
    session: ReadSession, user_id: int, *, box: Box, before: int | None, limit: int
) -> Sequence[Message]:
    """The latest first; `before`: those with smaller ids."""
    owner = Message.recipient_id if box == "inbox" else Message.sender_id
    found = select(Message).where(owner == user_id).order_by(Message.id.desc()).limit(limit)
    if before is not None:
        found = found.where(Message.id < before)
    return await session.scalars(found)


async def count_unread(session: ReadSession, user_id: int, *, most: int) -> int:
    """Counts up to `most`."""
    unread = select(Message.id).where(Message.recipient_id == user_id, Message.read_at.is_(None)).limit(most)
    return await session.scalar(select(func.count()).select_from(unread.subquery())) or 0


async def update_read(session: WriteSession, message_id: int, *, recipient_id: int, moment: datetime) -> bool:
    """Marks a message that is unread; False: this user has no such message. One that is read keeps its moment."""
    received = (Message.id == message_id, Message.recipient_id == recipient_id)
    changed = await session.execute(update(Message).where(*received, Message.read_at.is_(None)).values(read_at=moment))
    return changed.rowcount == 1 or await session.scalar(select(Message.id).where(*received)) is not None


async def get_notice(session: ReadSession, message_id: int) -> tuple[Message, str, str] | None:
    """An unread message with its recipient's address and its sender's name."""
    recipient, sender = aliased(User), aliased(User)
    rows = await session.rows(
        select(Message, recipient.email, sender.name)
        .join(recipient, recipient.id == Message.recipient_id)
        .join(sender, sender.id == Message.sender_id)
        .where(Message.id == message_id, Message.read_at.is_(None))
    )
    return rows[0] if rows else None
