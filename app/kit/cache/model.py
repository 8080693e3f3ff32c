"""What a caller asks of the cache, and what it gets."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from app.kit.cache.entry import Codec, LookupResult

T = TypeVar("T")

# The block's name in the metrics of failures.
BLOCK = "cache"

# Stored, stored but stale, computed and stored, or computed without storing (the terms of RFC 9211 and nginx).
CacheStatus = Literal["hit", "stale", "miss", "bypass"]


class CacheResult(NamedTuple):
    """A value, and where it came from."""

    value: Any
    status: CacheStatus


class EarlyLookup(NamedTuple):
    """What is stored of an entry, read before its caller asks for it; `since` is the logical time of the reading."""

    since: int
    stored: LookupResult


@dataclass(frozen=True, slots=True)
class DoNotStore(Generic[T]):
    """Returned by a compute whose value is for its own caller only: it is not stored, and no other caller gets it."""

    value: T


# Not frozen: each hit makes one, in a third of the time that a frozen one takes.
@dataclass(slots=True, eq=False)
class LoadRequest:
    """One caller's request for an entry: how it is computed, and for how long it is stored. See Cache.request().

    `entry` and `tags` are digests; `late_tags` gives those tags that depend on the result.
    """

    name: str
    entry: str
    compute: Callable[[], Awaitable[Any]]
    codec: Codec
    ttl_ms: int
    grace_ms: int
    tags: tuple[str, ...]
    late_tags: Callable[[Any], tuple[str, ...]] | None

    @property
    def life_ms(self) -> int:
        return self.ttl_ms + self.grace_ms
