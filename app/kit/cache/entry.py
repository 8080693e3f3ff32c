"""What a cache entry consists of: one line of JSON with its tags and their versions, then the encoded value."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import msgspec

# Raised when bytes are decoded that are no entry, or one of another format or type.
DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
TOKEN_BYTES = 8
# The first bytes of an entry, which differ for each write: `[1,"TOKEN"`, as in cache/lua/lease.lua.
MARK_BYTES = 21

EntryState = Literal["absent", "fresh", "stale", "invalid", "corrupt", "unreachable"]
# The version of each tag; None for a tag without one, whose entries are all invalid.
Versions = Mapping[str, bytes | None]


class EntryHeader(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The first line. `token` is random, one for each write; `versions` are those of the tags before the compute."""

    format: Literal[1]
    token: str
    grace_ms: int
    size: int
    versions: dict[str, str]


class LookupResult(NamedTuple):
    """What is stored under an entry's key, validated. `mark` differs for each write."""

    state: EntryState
    value: bytes = b""
    mark: bytes = b""


@dataclass(slots=True)
class StoredEntry:
    """An entry, decoded. `head` is None for bytes that are no entry of this format."""

    raw: bytes
    head: EntryHeader | None
    value: bytes = b""

    @property
    def tags(self) -> Collection[str]:
        return self.head.versions.keys() if self.head else ()

    @property
    def grace_ms(self) -> int:
        return self.head.grace_ms if self.head else 0

    def validate(self, *, versions: Versions, required: Collection[str], left_ms: int) -> LookupResult:
        """Invalid if a version of one of its tags has changed, or if it lacks one of the `required` tags."""
        mark = self.raw[:MARK_BYTES]
        if self.head is None:
            return LookupResult("corrupt", mark=mark)
        for tag, version in self.head.versions.items():
            if versions[tag] != version.encode():
                return LookupResult("invalid", mark=mark)
        for tag in required:
            if tag not in self.head.versions:
                return LookupResult("invalid", mark=mark)
        stale = self.grace_ms > 0 and left_ms <= self.grace_ms
        return LookupResult("stale" if stale else "fresh", self.value, mark)


_decoder = msgspec.json.Decoder(EntryHeader)


def encode_entry(value: bytes, *, token: str, grace_ms: int, versions: Versions) -> bytes:
    texts = {tag: version.decode() for tag, version in versions.items() if version is not None}
    head = msgspec.json.encode(EntryHeader(1, token, grace_ms, len(value), texts))
    return b"%b\n%b" % (head, value)


def decode_entry(raw: bytes, *, max_bytes: int) -> StoredEntry:
    """Never raises: other bytes than encode_entry() makes, and values above `max_bytes`, give an entry without head."""
    end = raw.find(b"\n")
    try:
        head = _decoder.decode(raw[: max(end, 0)])
    except DECODE_ERRORS:
        return StoredEntry(raw, None)
    value = raw[end + 1 :]
    if len(value) != head.size or head.size > max_bytes:
        return StoredEntry(raw, None)
    return StoredEntry(raw, head, value)


class Miss(Enum):
    """The type of MISS, which is returned for no value, because None is one."""

    MISS = "miss"


MISS: Final = Miss.MISS


@dataclass(frozen=True, slots=True)
class Codec:
    """How values become bytes. `decode` raises one of DECODE_ERRORS for bytes that `encode` did not make.

    `is_exact`: decoding what was encoded gives an equal value of the same type, so that a caller that computes a
    value may have it as it is.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    is_exact: bool = False

    def open(self, stored: LookupResult) -> tuple[EntryState, Any]:
        """The value of a fresh or stale entry, else MISS. A value of another type is corrupt."""
        if stored.state not in ("fresh", "stale"):
            return stored.state, MISS
        try:
            return stored.state, self.decode(stored.value)
        except DECODE_ERRORS:
            return "corrupt", MISS


@cache
def json_codec(type: Any) -> Codec:
    """JSON by msgspec. Values come back as `type`: a Struct, a dataclass, datetime, Decimal, UUID, lists of these...

    With `Any` they come back as JSON knows them: a tuple is a list, a datetime a string. NaN is always null.
    """
    return Codec(msgspec.json.encode, msgspec.json.Decoder(type).decode)
