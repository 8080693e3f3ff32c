"""Messages: sending with the event and the mail, reading one's boxes, and marking as read."""

from app.db.base import now
from app.domain.messages import store
from app.domain.messages.models import Message
from app.domain.messages.schemas import (
    MOST_UNREAD,
    MessagePage,
    MessageQuery,
    MessageSent,
    NewMessage,
    preview,
    shown,
)
from app.domain.messages.tasks import notify_recipient
from app.errors import Invalid, NotFound
from app.kit.events.event import user_channel
from app.principal import Principal
from app.resources import Resources


async def send_message(resources: Resources, principal: Principal, data: NewMessage) -> MessageSent:
    """Invalid: there is no such recipient."""
    async with resources.database.write() as session:
        if not await store.has_user(session, data.recipient_id):
            raise Invalid([{"loc": ["recipient_id"], "msg": "there is no such user"}])
        message = Message(
            sender_id=principal.user_id,
            recipient_id=data.recipient_id,
            content=data.content,
            created_at=now(),
            read_at=None,
        )
        await store.create_message(session, message)
        told = {"message_id": message.id, "sender_id": principal.user_id, "preview": preview(data.content)}
        resources.outbox.event(session, user_channel(data.recipient_id), "new_message", told)
        resources.outbox.task(session, notify_recipient, message.id)
    return MessageSent(message.id)


async def list_messages(resources: Resources, principal: Principal, query: MessageQuery) -> MessagePage:
    async with resources.database.read() as session:
        # One more than is shown tells whether there is another page.
        found = await store.list_messages(
            session, principal.user_id, box=query.box, before=query.before, limit=query.limit + 1
        )
        unread = await store.count_unread(session, principal.user_id, most=MOST_UNREAD)
    page = found[: query.limit]
    return MessagePage([shown(each) for each in page], page[-1].id if len(found) > query.limit else None, unread)


async def mark_read(resources: Resources, principal: Principal, message_id: int) -> None:
    """NotFound: it is not in this user's inbox. A repeat changes nothing."""
    async with resources.database.write() as session:
        if not await store.update_read(session, message_id, recipient_id=principal.user_id, moment=now()):
            raise NotFound("You have no such message.")
