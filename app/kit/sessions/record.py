"""What a session is, and how it becomes the fields of a Redis hash and back; its id and the check of one."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from app.kit.keys import digest

Channel = Literal["cookie", "header"]
CHANNELS: tuple[Channel, ...] = ("cookie", "header")

# Of a session's fields, names included. Parallel writers of different fields may together go beyond it, so that
# twice as much is still read.
MAX_SESSION_BYTES = 64 * 1024
MAX_METADATA_LENGTH = 256

# Bucket and secret. 4,096 buckets spread the sessions over a cluster's slots; the secret has 256 bits.
_ID = re.compile(r"([0-9a-f]{3})\.[A-Za-z0-9_-]{43}", re.ASCII)
# What the application and its users name stands behind a prefix, apart from the fields that the scripts keep.
_DATA, _METADATA = b"d:", b"m:"


class Unstorable(ValueError):
    """A value that is not JSON, or more than a session holds. The message names fields, never values."""


class Unreadable(ValueError):
    """A stored record that makes no session. `reason` is a label for metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def new_id(bucket: str) -> str:
    return f"{bucket}.{secrets.token_urlsafe(32)}"


def bucket_for(user_id: int | None) -> str:
    """Three hexadecimal digits; all sessions of a user share them, a visitor's are random."""
    return digest(f"user:{user_id}")[:3] if user_id is not None else secrets.token_hex(2)[:3]


def bucket_of(session_id: str) -> str | None:
    """The bucket of a well-formed id; None for anything else that a client may send."""
    found = _ID.fullmatch(session_id)
    return found[1] if found else None


@dataclass(slots=True)
class SessionRecord:
    """One session as read. `id` is its secret; times are epoch seconds by Redis' clock.

    `data` may be changed in place; `stored` is what Redis held of it, encoded.
    """

    id: str = field(repr=False)
    channel: Channel
    user_id: int | None
    created_at: float
    last_activity: float
    expires_at: float
    metadata: dict[str, str] = field(repr=False)
    data: dict[str, Any] = field(repr=False)
    stored: dict[str, bytes] = field(repr=False)

    @property
    def bucket(self) -> str:
        return self.id[:3]

    @property
    def handle(self) -> str:
        """Names the session in public, to its own user: the secret cannot be had from it."""
        return digest(self.id)

    def idle_seconds(self) -> float:
        """How far this process' clock is from the last activity: in either direction, so that a wrong clock
        costs a few calls more, not the session."""
        return abs(time.time() - self.last_activity)

    def changes(self) -> tuple[dict[str, Any], set[str]]:
        """The fields of `data` that differ from what is stored, and those removed. Nested changes count.

        Unstorable: `data` holds what cannot be stored.
        """
        changed = {
            name: self.data[name] for name, value in encode_fields(self.data).items() if self.stored.get(name) != value
        }
        return changed, self.stored.keys() - self.data.keys()


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a user is shown of a session."""

    handle: str
    created_at: float
    last_activity: float
    ip: str
    user_agent: str


def encode_fields(data: Mapping[str, Any]) -> dict[str, bytes]:
    """Each top-level value as JSON. Unstorable names the field that is at fault."""
    encoded = {}
    for name, value in data.items():
        try:
            name.encode()
            encoded[name] = msgspec.json.encode(value)
        except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Unstorable(f"the session field {name!a} is not JSON: {type(error).__name__}") from None
    if encoded_size(encoded) > MAX_SESSION_BYTES:
        raise Unstorable(f"the session has more than {MAX_SESSION_BYTES} bytes, in the fields {sorted(encoded)!a}")
    return encoded


def encoded_size(encoded: Mapping[str, bytes]) -> int:
    return sum(len(name.encode()) + len(value) for name, value in encoded.items())


def field_name(name: str) -> bytes:
    """The hash field of a data field."""
    return _DATA + name.encode()


def encode_record(
    data: Mapping[str, Any], metadata: Mapping[str, str], *, channel: Channel, user_id: int | None
) -> dict[bytes, bytes]:
    """The fields of a new record, but for the times, which the script sets by Redis' clock."""
    fields = {field_name(name): value for name, value in encode_fields(data).items()}
    for name, text in metadata.items():
        fields[_METADATA + name.encode()] = text[:MAX_METADATA_LENGTH].encode(errors="replace")
    fields[b"channel"] = channel.encode()
    if user_id is not None:
        fields[b"user"] = str(user_id).encode()
    return fields


def decode_record(session_id: str, fields: Mapping[bytes, bytes]) -> SessionRecord:
    """The session that a hash holds. Unreadable when it is too large or holds something else."""
    try:
        stored = {name[2:].decode(): value for name, value in fields.items() if name.startswith(_DATA)}
        if encoded_size(stored) > 2 * MAX_SESSION_BYTES:
            raise Unreadable("too_large")
        user = fields.get(b"user")
        return SessionRecord(
            id=session_id,
            channel=CHANNELS[CHANNELS.index(fields[b"channel"].decode())],
            user_id=None if user is None else int(user),
            created_at=int(fields[b"created"]) / 1000,
            last_activity=int(fields[b"active"]) / 1000,
            expires_at=int(fields[b"expires"]) / 1000,
            metadata={
                name[2:].decode(): value.decode() for name, value in fields.items() if name.startswith(_METADATA)
            },
            data={name: msgspec.json.decode(value) for name, value in stored.items()},
            stored=stored,
        )
    except Unreadable:
        raise
    except (KeyError, ValueError, RecursionError):
        raise Unreadable("corrupt") from None
