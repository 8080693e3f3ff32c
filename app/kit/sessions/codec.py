"""A session as the fields of a Redis hash, and back: each value is JSON, each name behind a prefix."""

from collections.abc import Mapping
from typing import Any

import msgspec

from app.kit.sessions.record import CHANNELS, Channel, SessionRecord

# Of a session's fields, names included. Writers of different fields in parallel may together exceed it, so twice as
# much can still be read.
MAX_SESSION_BYTES = 64 * 1024
MAX_METADATA_LENGTH = 256

# Names that the application and its users choose have a prefix: they never meet the fields that the scripts keep.
_DATA, _METADATA = b"d:", b"m:"


class Unstorable(ValueError):
    """A value that is not JSON, or more than a session holds. The message names fields, never values."""


class SessionRejected(ValueError):
    """An id or a stored record that makes no session. `reason` is a label for metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
    """The bytes of all names and values."""
    return sum(len(name.encode()) + len(value) for name, value in encoded.items())


def changed_fields(record: SessionRecord) -> tuple[dict[str, Any], set[str]]:
    """The fields of `record.data` that differ from what is stored, and the names of those removed.

    Nested changes count. Unstorable: `data` holds what cannot be stored.
    """
    changed = {
        name: record.data[name]
        for name, value in encode_fields(record.data).items()
        if record.stored.get(name) != value
    }
    return changed, record.stored.keys() - record.data.keys()


def field_name(name: str) -> bytes:
    """The hash field of a data field."""
    return _DATA + name.encode()


def encode_record(
    data: Mapping[str, Any], metadata: Mapping[str, str], *, channel: Channel, user_id: int | None
) -> dict[bytes, bytes]:
    """The hash of a new record without its times, which the script sets by Redis' clock."""
    fields = {field_name(name): value for name, value in encode_fields(data).items()}
    for name, text in metadata.items():
        fields[_METADATA + name.encode()] = text[:MAX_METADATA_LENGTH].encode(errors="replace")
    fields[b"channel"] = channel.encode()
    if user_id is not None:
        fields[b"user"] = str(user_id).encode()
    return fields


def decode_record(session_id: str, fields: Mapping[bytes, bytes]) -> SessionRecord:
    """The session that a hash holds. SessionRejected when it is too large or holds something else."""
    try:
        stored = {name[2:].decode(): value for name, value in fields.items() if name.startswith(_DATA)}
        if encoded_size(stored) > 2 * MAX_SESSION_BYTES:
            raise SessionRejected("too_large")
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
    except SessionRejected:
        raise
    except (KeyError, ValueError, RecursionError):
        raise SessionRejected("corrupt") from None
