"""An event: its JSON, its cursor, and the message by which Redis delivers it.

An event is published on one channel. A pattern, such as `user:*`, matches channels by Redis' glob `*`. A topic is what
a stream or a subscriber subscribes to: a channel or a pattern.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

# How long a channel's history lives after its last event, and so how old a cursor may be.
HISTORY_SECONDS = 24 * 60 * 60
# About how many events of all channels together a subscriber may be behind.
LOG_LENGTH = 10_000
MAX_PAYLOAD_BYTES = 64 * 1024

BROADCAST = "broadcast"
# `error` and `open` are the types of an EventSource's own events, whose handlers an event of that name would call; the
# others are the hub's.
RESERVED_TYPES = frozenset({"error", "open", "resync", "live", "interrupted"})

Position = tuple[int, int]

_CHANNEL = re.compile(r"[a-z0-9:_-]{1,64}")
_TOPIC = re.compile(r"[a-z0-9:_*-]{1,64}")
_TYPE = re.compile(r"[A-Za-z0-9:._-]{1,64}")
# The digits are few enough for Redis' unsigned 64-bit halves.
_CURSOR = re.compile(r"([0-9a-f]{12})-([0-9]{1,15})-([0-9]{1,15})")


class Malformed(ValueError):
    """A message that no Publisher wrote."""


class EventTooLarge(ValueError):
    """The JSON of an event has more than MAX_PAYLOAD_BYTES."""


class _Head(msgspec.Struct):
    type: str


_decode_head = msgspec.json.Decoder(_Head).decode


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as clients get it in JSON. `id` is empty there: it is given at publishing and sent beside the JSON.

    `traceparent`: the trace of what has published it (W3C Trace Context); left out where it is not traced.
    """

    type: str
    data: Any
    timestamp: datetime
    channel: str
    id: str = ""
    traceparent: str | None = None


class Cursor(NamedTuple):
    """A position in the order of all events: "epoch-ms-seq". A new epoch begins when Redis has lost its data."""

    epoch: str
    position: Position

    @property
    def stream_id(self) -> str:
        return f"{self.position[0]}-{self.position[1]}"

    def __str__(self) -> str:
        return f"{self.epoch}-{self.stream_id}"

    @classmethod
    def parse(cls, text: str | None) -> "Cursor | None":
        """None for None and for any text that is not a cursor."""
        found = _CURSOR.fullmatch(text or "")
        return cls(found[1], (int(found[2]), int(found[3]))) if found else None


@dataclass(frozen=True, slots=True)
class Message:
    """An event as Redis delivers it.

    `previous` is the position of the event before it on its channel, `payload` the JSON of an Event.
    """

    channel: str
    type: str
    cursor: Cursor
    previous: Position
    payload: bytes

    @classmethod
    def parse(cls, channel: str, *, epoch: str, stream_id: bytes, previous: bytes, payload: bytes) -> "Message":
        """Raises Malformed for parts that events/lua/publish.lua does not write."""
        try:
            cursor = Cursor(epoch, parse_position(stream_id))
            return cls(channel, _decode_head(payload).type, cursor, parse_position(previous), payload)
        except ValueError as error:
            raise Malformed(f"not an event, on {channel}") from error


def encode_event(channel: str, type: str, data: Any, *, traceparent: str | None = None) -> bytes:
    """The JSON of an Event that happens now: the payload that is stored and published, at most MAX_PAYLOAD_BYTES.

    EventTooLarge beyond that, ValueError for a channel or a type that is not allowed, TypeError for data that JSON
    cannot hold.
    """
    event = Event(validate_type(type), data, datetime.now(UTC), validate_channel(channel), traceparent=traceparent)
    payload = msgspec.json.encode(event)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise EventTooLarge(f"an event of {len(payload)} bytes; {MAX_PAYLOAD_BYTES} are allowed")
    return payload


def parse_position(stream_id: bytes) -> Position:
    """The position of a stream id, `ms-seq`. ValueError for anything else."""
    ms, _, sequence = stream_id.partition(b"-")
    return int(ms), int(sequence)


def parse_message(channel: str, wire: bytes) -> Message:
    """Parse what events/lua/publish.lua publishes: `id previous epoch payload`. Raises Malformed."""
    try:
        stream_id, previous, epoch, payload = wire.split(b" ", 3)
        text = epoch.decode()
    except ValueError as error:
        raise Malformed(f"not an event, on {channel}") from error
    return Message.parse(channel, epoch=text, stream_id=stream_id, previous=previous, payload=payload)


def validate_channel(name: str) -> str:
    """Return the name; ValueError when it does not match [a-z0-9:_-]{1,64}."""
    if not _CHANNEL.fullmatch(name):
        raise ValueError(f"not a channel: {name!r}")
    return name


def validate_topic(topic: str) -> str:
    """Return the topic; ValueError when it is neither a channel nor a pattern."""
    if not _TOPIC.fullmatch(topic):
        raise ValueError(f"neither a channel nor a pattern: {topic!r}")
    return topic


def is_pattern(topic: str) -> bool:
    return "*" in topic


def validate_type(name: str) -> str:
    """Return the name; ValueError when it does not match [A-Za-z0-9:._-]{1,64}, and for RESERVED_TYPES."""
    if not _TYPE.fullmatch(name):
        raise ValueError(f"not an event type: {name!r}")
    if name in RESERVED_TYPES:
        raise ValueError(f"a reserved event type: {name!r}")
    return name


def user_channel(user_id: int) -> str:
    """The channel that this user alone, and admins, may subscribe to."""
    return f"user:{user_id}"
