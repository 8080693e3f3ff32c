"""Server-sent events, encoded (HTML Living Standard, section 9.2.5)."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from app.kit.events.event import Cursor, Message

HEARTBEAT = b":\n\n"
# How long clients wait before they reconnect, with jitter: after a restart not all of them return at once.
RETRY_MS = (1_000, 5_000)

# The line ends of an event stream. str.splitlines would also split at U+2028, U+0085 and the vertical tab.
_LINE_END = re.compile(rb"\r\n|\r|\n")
_NOT_IN_A_FIELD = {ord(character): None for character in "\r\n\0"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded event, shared by all its streams."""

    cursor: Cursor
    type: str
    data: bytes


def encode_frame(data: bytes, *, event: str = "", event_id: str = "") -> bytes:
    """Encode one event. CR, LF and NUL are removed from `event` and `event_id`; line ends in `data` are kept."""
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
    """Encode `event: resync`: the client has missed events up to `cursor` and must reload what it shows.

    Without a cursor the client keeps its last id; the event after this one brings a new one.
    """
    return _encode_own("resync", {"reason": reason}, cursor)


def encode_live(cursor: Cursor | None = None) -> bytes:
    """Encode `event: live`: the client has all events up to here, and gets further ones as they are published.

    Without a cursor the client keeps its last id.
    """
    return _encode_own("live", None, cursor)


def encode_interrupted() -> bytes:
    """Encode `event: interrupted`: the server has lost Redis, and events come late, before the next `event: live`."""
    return _encode_own("interrupted", None)


def encode_position(cursor: Cursor) -> bytes:
    """Encode an id without an event, from which a client resumes that reconnects before its first event."""
    return f"id: {cursor}\n\n".encode()


def encode_retry() -> bytes:
    """Encode `retry:` with a random number of milliseconds within RETRY_MS."""
    least, most = RETRY_MS
    return b"retry: %d\n\n" % (least + secrets.randbelow(most - least))


def _encode_own(type: str, data: dict[str, str] | None, cursor: Cursor | None = None) -> bytes:
    """Encode an event of the hub's, which no channel has."""
    body = {"type": type, "data": data, "timestamp": datetime.now(UTC), "channel": None}
    return encode_frame(msgspec.json.encode(body), event=type, event_id=str(cursor) if cursor else "")
