"""What a caller wants of the cache, and what it gets."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import msgspec

from app.kit.cache.entry import DECODE_ERRORS, EntryState, LookupResult

CacheStatus = Literal["hit", "stale", "miss", "bypass"]


class Miss(Enum):
    """The type of MISS, which stands for no value, because None is one."""

    MISS = "miss"


MISS: Final = Miss.MISS


class Uncacheable(Exception):
    """Raised by a compute whose result is for its own caller alone: nothing is stored, and nobody shares it."""


class CacheResult(NamedTuple):
    """A value, and where it came from: stored, stored but past its time, computed, or computed without Redis."""

    value: Any
    status: CacheStatus


@dataclass(frozen=True, slots=True)
class Codec:
    """`decode` raises one of app.kit.cache.entry.DECODE_ERRORS for bytes that `encode` did not make."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def open(self, stored: LookupResult) -> tuple[EntryState, Any]:
        """The value of an entry that counts, be it stale; otherwise MISS. One of another type is corrupt."""
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


@dataclass(slots=True)
class LoadRequest:
    """A value, how to compute it and how long to keep it. Entry and tags are digests; `name` is for the metrics.

    `late_tags` finds the tags that only the result tells. Without `fills` a stored value is wanted, or none.
    """

    name: str
    entry: str
    compute: Callable[[], Awaitable[Any]]
    codec: Codec
    ttl_ms: int
    grace_ms: int
    tags: tuple[str, ...]
    late_tags: Callable[[Any], tuple[str, ...]] | None
    fills: bool = True

    @property
    def life_ms(self) -> int:
        return self.ttl_ms + self.grace_ms
