"""What an event is: its JSON, the names of channels, its place in time, and its form on the wire."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

# How long a channel's history lives after its last event, and so how old a cursor may be.
HISTORY_SECONDS = 24 * 60 * 60

Position = tuple[int, int]

_CHANNEL = re.compile(r"[a-z0-9:_-]{1,64}")
_PATTERN = re.compile(r"[a-z0-9:_*-]{1,64}")
_TYPE = re.compile(r"[A-Za-z0-9:._-]{1,64}")
# The digits are few enough for Redis' unsigned 64-bit halves.
_CURSOR = re.compile(r"([0-9a-f]{12})-([0-9]{1,15})-([0-9]{1,15})")


class Malformed(ValueError):
    """A message that no publisher of ours wrote."""


class _Head(msgspec.Struct):
    type: str


_decode_head = msgspec.json.Decoder(_Head).decode


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as clients get it in JSON. `id` is known only once it is published, and travels beside the JSON."""

    type: str
    data: Any
    timestamp: datetime
    channel: str
    id: str = ""


class Cursor(NamedTuple):
    """A place in the order of all events: "epoch-ms-seq". A new epoch begins when Redis has lost its data."""

    epoch: str
    position: Position

    @property
    def stream_id(self) -> str:
        return f"{self.position[0]}-{self.position[1]}"

    def __str__(self) -> str:
        return f"{self.epoch}-{self.stream_id}"

    @classmethod
    def parse(cls, text: str | None) -> "Cursor | None":
        """None for None, and for anything that is no cursor."""
        found = _CURSOR.fullmatch(text or "")
        return cls(found[1], (int(found[2]), int(found[3]))) if found else None


@dataclass(frozen=True, slots=True)
class Message:
    """An event as Redis gives it. `previous` is the one before it on its channel, `payload` the JSON of an Event."""

    channel: str
    type: str
    cursor: Cursor
    previous: Position
    payload: bytes

    @classmethod
    def parse(cls, channel: str, *, epoch: str, stream_id: bytes, previous: bytes, payload: bytes) -> "Message":
        """Malformed when a part is not what our scripts write."""
        try:
            cursor = Cursor(epoch, parse_position(stream_id))
            return cls(channel, _decode_head(payload).type, cursor, parse_position(previous), payload)
        except ValueError as error:
            raise Malformed(f"not an event, on {channel}") from error


def parse_position(stream_id: bytes) -> Position:
    """A stream id, `ms-seq`."""
    ms, _, sequence = stream_id.partition(b"-")
    return int(ms), int(sequence)


def parse_message(channel: str, wire: bytes) -> Message:
    """What events/lua/publish.lua publishes: `id previous epoch payload`. Malformed otherwise."""
    try:
        stream_id, previous, epoch, payload = wire.split(b" ", 3)
        text = epoch.decode()
    except ValueError as error:
        raise Malformed(f"not an event, on {channel}") from error
    return Message.parse(channel, epoch=text, stream_id=stream_id, previous=previous, payload=payload)


def validate_channel(name: str) -> str:
    """The name itself; ValueError when it does not match [a-z0-9:_-]{1,64}."""
    if not _CHANNEL.fullmatch(name):
        raise ValueError(f"not a channel: {name!r}")
    return name


def validate_topic(name: str) -> str:
    """A channel, or a pattern of channels such as `user:*`. ValueError otherwise."""
    if not _PATTERN.fullmatch(name):
        raise ValueError(f"neither a channel nor a pattern: {name!r}")
    return name


def is_pattern(topic: str) -> bool:
    return "*" in topic


def validate_type(name: str) -> str:
    """The name itself; ValueError when it does not match [A-Za-z0-9:._-]{1,64}."""
    if not _TYPE.fullmatch(name):
        raise ValueError(f"not an event type: {name!r}")
    return name
