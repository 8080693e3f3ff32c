"""The request and response bodies of messages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from app.db.database import LARGEST_ID
from app.domain.fields import WHOLE, WITHOUT_NUL, Body
from app.domain.messages.models import Message
from app.web.number import PLAIN_DIGITS

LONGEST_CONTENT = 5000
LONGEST_PREVIEW = 100
MOST_A_PAGE = 50
# More unread messages are not counted: the count is part of each page.
MOST_UNREAD = 1000


class NewMessage(Body):
    recipient_id: Annotated[int, Field(ge=1, le=LARGEST_ID, strict=True), WHOLE]
    content: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_CONTENT), WITHOUT_NUL
    ]


class MessageQuery(BaseModel):
    """`before`: the `next_before` of the page before, for the next one. Without it: the latest messages."""

    box: Literal["inbox", "sent"] = "inbox"
    before: Annotated[int, Field(ge=1, le=LARGEST_ID), PLAIN_DIGITS] | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_A_PAGE), PLAIN_DIGITS] = 20


@dataclass(frozen=True, slots=True)
class MessageSent:
    """The new message."""

    message_id: int


@dataclass(frozen=True, slots=True)
class MessageShown:
    """A message. `sender_id` is null after the sender's account was deleted, `read_at` until it is read."""

    id: int
    sender_id: int | None
    recipient_id: int
    content: str
    created_at: datetime
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages of a box, the latest first.

    `next_before`: null on the last page. `unread`: how many of the inbox are unread, counted up to 1000.
    """

    messages: list[MessageShown]
    next_before: int | None
    unread: int


def shown(message: Message) -> MessageShown:
    return MessageShown(
        id=message.id,
        sender_id=message.sender_id,
        recipient_id=message.recipient_id,
        content=message.content,
        created_at=message.created_at,
        read_at=message.read_at,
    )


def preview(content: str) -> str:
    """The beginning on one line: at most LONGEST_PREVIEW characters."""
    line = " ".join(content.split())
    return line if len(line) <= LONGEST_PREVIEW else f"{line[: LONGEST_PREVIEW - 1].rstrip()}…"
