"""A session as the fields of a Redis hash, and back: each value is JSON, each name behind a prefix."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.kit.sessions.record import CHANNELS, Channel, SessionInfo, SessionRecord
from app.kit.sessions.values import SessionTooLarge, Unstorable, decode_value, encode_value

# Of a session's fields, names included. The script that saves holds parallel writers to it too.
MAX_SESSION_BYTES = 64 * 1024
MAX_METADATA_LENGTH = 256

# The digits of a time in ms. 15 would be beyond the years that datetime knows.
LONGEST_MS = 14

# Names that the application and its users choose have a prefix: they never meet the fields that the scripts keep.
_DATA, _METADATA = b"d:", b"m:"


class SessionRejected(ValueError):
    """An id or a stored record that makes no session. `reason` is a label for metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode_fields(data: Mapping[str, Any]) -> dict[str, bytes]:
    """Each top-level value as JSON. Unstorable names the field that is at fault."""
    encoded = {name: encode_field(name, value) for name, value in data.items()}
    if encoded_size(encoded) > MAX_SESSION_BYTES:
        raise SessionTooLarge(f"the session has more than {MAX_SESSION_BYTES} bytes, in the fields {sorted(encoded)!a}")
    return encoded


def encode_field(name: str, value: Any) -> bytes:
    """The value as JSON. Unstorable names the field, also where it alone is more than a session holds."""
    try:
        size, encoded = len(name.encode()), encode_value(value)
    except (AttributeError, UnicodeError):
        raise Unstorable(f"the name of a session field is not text: {name!a:.64}") from None
    except Unstorable as error:
        raise Unstorable(f"the session field {name!a:.64} cannot hold {error}") from None
    if size + len(encoded) > MAX_SESSION_BYTES:
        raise SessionTooLarge(f"the session field {name!a:.64} has more than {MAX_SESSION_BYTES} bytes")
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
    data, stored = decode_fields(fields)
    try:
        user = fields.get(b"user")
        return SessionRecord(
            id=session_id,
            channel=CHANNELS[CHANNELS.index(fields[b"channel"].decode())],
            user_id=None if user is None else int(user),
            created_at=_seconds(fields[b"created"]),
            last_activity=_seconds(fields[b"active"]),
            expires_at=_seconds(fields[b"expires"]),
            metadata={
                name[2:].decode(): value.decode() for name, value in fields.items() if name.startswith(_METADATA)
            },
            data=data,
            stored=stored,
        )
    except (KeyError, ValueError):
        raise SessionRejected("corrupt") from None


def decode_fields(fields: Mapping[bytes, bytes]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The data of a hash, decoded and as it is stored. SessionRejected when it is too large or no data."""
    try:
        stored = {name[2:].decode(): value for name, value in fields.items() if name.startswith(_DATA)}
        if encoded_size(stored) > MAX_SESSION_BYTES:
            raise SessionRejected("too_large")
        return {name: decode_value(value) for name, value in stored.items()}, stored
    except SessionRejected:
        raise
    except (ValueError, RecursionError):
        raise SessionRejected("corrupt") from None


def decode_info(row: Sequence[bytes]) -> SessionInfo:
    """What the script that lists sessions tells of one. SessionRejected when it holds something else."""
    public_id, created, active, ip, user_agent = row
    try:
        return SessionInfo(public_id.decode(), _seconds(created), _seconds(active), ip.decode(), user_agent.decode())
    except ValueError:
        raise SessionRejected("corrupt") from None


def _seconds(ms: bytes) -> float:
    if len(ms) > LONGEST_MS or not ms.isdigit():
        raise ValueError("not a time in ms")
    return int(ms) / 1000
