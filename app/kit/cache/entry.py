"""What a cache entry is made of: one line of JSON that says under which tags it counts, then the value's bytes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

# What bytes that were not written here, or not in this format, raise when they are decoded.
DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
TOKEN_BYTES = 8
# How much of an entry tells one write from every other: `[1,"TOKEN"`, as in cache/lua/lease.lua.
MARK_BYTES = 21

EntryState = Literal["absent", "fresh", "stale", "invalid", "corrupt", "unreachable"]
# The version of each tag; None where the tag has none, and nothing counts under it.
Versions = Mapping[str, bytes | None]


class EntryHeader(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The first line. `token` is random, one for each write; `versions` are those of the tags before the compute."""

    format: Literal[1]
    token: str
    grace_ms: int
    size: int
    versions: dict[str, str]


class LookupResult(NamedTuple):
    """What stands under an entry's key, judged. `mark` tells this write from every other."""

    state: EntryState
    value: bytes = b""
    mark: bytes = b""


@dataclass(slots=True)
class StoredEntry:
    """An entry's bytes, opened. `head` is None where they are not an entry of this format."""

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
        """Whether the entry counts. It does not if one of its tags has changed, or if one of `required` is not its."""
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
    """Never raises: foreign, outdated or cut off bytes, and values of more than `max_bytes`, open to nothing."""
    end = raw.find(b"\n")
    try:
        head = _decoder.decode(raw[: max(end, 0)])
    except DECODE_ERRORS:
        return StoredEntry(raw, None)
    value = raw[end + 1 :]
    if len(value) != head.size or head.size > max_bytes:
        return StoredEntry(raw, None)
    return StoredEntry(raw, head, value)
