"""Server-sent events, encoded (HTML Living Standard, section 9.2.5)."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from app.kit.events.event import Cursor, Message

HEARTBEAT = b":\n\n"
# How long clients wait before they connect again, spread so that a restart does not bring all of them at once.
RETRY_MS = (1_000, 5_000)

# Only these end a line of a stream. U+2028, U+0085 and the vertical tab do not, so str.splitlines would be wrong.
_LINE_END = re.compile(rb"\r\n|\r|\n")
_NOT_IN_A_FIELD = {ord(character): None for character in "\r\n\0"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as bytes, shared by all streams that it goes to."""

    cursor: Cursor
    type: str
    data: bytes


def encode_frame(data: bytes, *, event: str = "", event_id: str = "") -> bytes:
    """One event: `event` and `event_id` lose the characters that end a line or void an id, `data` keeps all."""
    fields = []
    if event_id:
        fields.append(f"id: {event_id.translate(_NOT_IN_A_FIELD)}\n".encode())
    if event:
        fields.append(f"event: {event.translate(_NOT_IN_A_FIELD)}\n".encode())
    fields += [b"data: " + line + b"\n" for line in _LINE_END.split(data)]
    return b"".join([*fields, b"\n"])


def encode_message(message: Message) -> Frame:
    data = encode_frame(message.payload, event=message.type, event_id=str(message.cursor))
    return Frame(message.cursor, message.type, data)


def encode_resync(cursor: Cursor | None, *, reason: str) -> bytes:
    """`event: resync`: the client has missed events up to `cursor` and must fetch afresh what it shows.

    Without a cursor the client keeps the id it has, because the event behind this one brings the new one.
    """
    body = {"type": "resync", "data": {"reason": reason}, "timestamp": datetime.now(UTC), "channel": None}
    return encode_frame(msgspec.json.encode(body), event="resync", event_id=str(cursor) if cursor else "")


def encode_position(cursor: Cursor) -> bytes:
    """An id and no event: where to resume, for a client that leaves before its first event."""
    return f"id: {cursor}\n\n".encode()


def encode_retry() -> bytes:
    """How many ms to wait before connecting again: RETRY_MS, at random."""
    least, most = RETRY_MS
    return b"retry: %d\n\n" % (least + secrets.randbelow(most - least))
