"""Cache: values with a time to live and tags; many callers, in many processes, share one computation."""

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from functools import lru_cache, partial
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.cache.arguments import TagNames, encode_arguments, tag_names
from app.kit.cache.entries import Entries
from app.kit.cache.entry import MISS, TOKEN_BYTES, Codec, json_codec
from app.kit.cache.loader import Loader
from app.kit.cache.model import BLOCK, CacheResult, DoNotStore, EarlyLookup, LoadRequest
from app.kit.client.errors import record_failure
from app.kit.durations import check_seconds
from app.kit.keys import Keys, digest
from app.kit.telemetry import NoTelemetry, Telemetry

T = TypeVar("T")

MAX_VALUE_BYTES = 4 << 20
UNNAMED = "unnamed"
TAG_DIGITS = 32
SHORT_NAME = 128


class Cache:
    """Values under keys, with tags. Keys and tags are any strings; Redis sees their digests.

    While Redis is down, full or read-only, values are computed, one run at a time in each process. Only delete() and
    invalidate_tags() raise then.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        telemetry: Telemetry | None = None,
        lease_seconds: float = 10.0,
        max_bytes: int = MAX_VALUE_BYTES,
        memory_percent: int | None = None,
    ) -> None:
        """A process that dies while it computes is replaced after `lease_seconds`. Larger values are not stored.

        Nothing is stored while more than `memory_percent` of the server's `maxmemory` (of the machine's memory, where
        there is none) is in use: for a server that others share, which must not evict. None: no bound.
        """
        self._telemetry = telemetry or NoTelemetry()
        self._entries = Entries(
            redis, keys, max_bytes=max_bytes, margin_ms=_ms(lease_seconds), memory_percent=memory_percent
        )
        self._loader = Loader(self._entries, telemetry=self._telemetry, lease_seconds=lease_seconds)
        self._names: tuple[str, ...] = ()
        self._namespace = encode_arguments(self._names)

    def in_namespace(self, *names: str) -> "Cache":
        """This cache with separate keys and tags, such as one tenant's. Namespaces nest."""
        inner = copy(self)
        inner._names = (*self._names, *names)
        inner._namespace = encode_arguments(inner._names)
        return inner

    async def get(self, key: str, *, tags: TagNames = (), type: Any = Any) -> Any:
        """The value, decoded as `type`, or MISS. See get_many()."""
        return (await self.get_many([key], tags=tags, type=type)).get(key, MISS)

    async def get_many(self, keys: Iterable[str], *, tags: TagNames = (), type: Any = Any) -> dict[str, Any]:
        """The stored values. One round trip if they were stored with no other tags than `tags`, else two.

        A value that was stored without one of `tags` is left out.
        """
        entries = {key: self._entry(key) for key in keys}
        codec = json_codec(type)
        try:
            found = await self._entries.read(list(entries.values()), tags=self._tags(tags), graced=False)
        except RedisError as error:
            # Fails open: nothing is found.
            record_failure(error, block=BLOCK, telemetry=self._telemetry)
            self._count("bypassed", len(entries))
            return {}
        opened = {key: codec.open(stored) for key, stored in zip(entries, found, strict=True)}
        values = {key: value for key, (state, value) in opened.items() if state == "fresh"}
        self._count("hits", len(values))
        self._count("misses", len(entries) - len(values))
        self._count("corrupt", sum(state == "corrupt" for state, _ in opened.values()))
        return values

    async def set(self, key: str, value: object, *, ttl_seconds: float, tags: TagNames = ()) -> bool:
        """Store a value. See set_many()."""
        return await self.set_many({key: value}, ttl_seconds=ttl_seconds, tags=tags)

    async def set_many(self, values: Mapping[str, object], *, ttl_seconds: float, tags: TagNames = ()) -> bool:
        """Store values, all with the same tags. Runs under way for their keys cannot overwrite them.

        False if Redis fails, a value is too large or memory is short. An invalidation between the reading of the data
        and this call is missed; get_or_compute() has no such gap.
        """
        encode = json_codec(Any).encode
        encoded = {self._entry(key): encode(value) for key, value in values.items()}
        small = {entry: value for entry, value in encoded.items() if self._entries.fits(value)}
        token, life_ms = secrets.token_hex(TOKEN_BYTES), _ms(ttl_seconds)
        try:
            versions = await self._entries.versions(self._tags(tags), token=token, life_ms=life_ms)
            texts = {tag: version.text for tag, version in versions.items()}
            store = partial(self._entries.store, token=token, held=False, life_ms=life_ms, grace_ms=0, versions=texts)
            outcomes = await asyncio.gather(*(store(entry, value) for entry, value in small.items()))
            stored = [value for value, outcome in zip(small.values(), outcomes, strict=True) if outcome == "written"]
            self._count("stored_bytes", sum(map(len, stored)))
        except RedisError as error:
            # Fails open: the next caller computes the value.
            record_failure(error, block=BLOCK, telemetry=self._telemetry)
            self._count("bypassed", len(encoded))
            return False
        return len(stored) == len(encoded)

    async def delete(self, *keys: str) -> None:
        """Delete values. Runs under way for their keys answer their callers, but do not store.

        Fails closed: raises RedisError, because the old values may still be served.
        """
        await self._entries.delete([self._entry(key) for key in keys])

    async def discard(self, request: LoadRequest) -> None:
        """delete() of the entry of a request."""
        await self._entries.delete([request.entry])

    async def invalidate_tags(self, *tags: str) -> None:
        """Invalidate all values with these tags: no later caller gets a value that was computed before this returned.

        To be called after the commit of the change. Fails closed: raises RedisError.
        """
        await self._entries.invalidate(self._tags(tags))

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Awaitable[T | DoNotStore[T]]],
        *,
        ttl_seconds: float,
        tags: TagNames | Callable[[T], TagNames] = (),
        grace_seconds: float = 0.0,
        type: Any = Any,
        name: str = UNNAMED,
    ) -> T:
        """load() of a value that is stored as JSON.

        Every caller gets its own copy, decoded from JSON as `type`. The caller that computes is no exception, so that
        the first call returns what later ones do. Only the value of DoNotStore is returned as it is.
        """
        request = self.request(
            key,
            compute,
            ttl_seconds=ttl_seconds,
            tags=tags,
            grace_seconds=grace_seconds,
            codec=json_codec(type),
            name=name,
        )
        value: T = (await self.load(request)).value
        return value

    def request(
        self,
        key: str,
        compute: Callable[[], Awaitable[T | DoNotStore[T]]],
        *,
        ttl_seconds: float,
        tags: TagNames | Callable[[T], TagNames],
        grace_seconds: float,
        codec: Codec,
        name: str,
    ) -> LoadRequest:
        """One caller's request, for one call of load() or look().

        `compute` must read primary databases only, because a replica may lag. `tags` may be a function of its result.
        For `grace_seconds` after `ttl_seconds` the old value is served while one caller computes, unless one of its
        tags was invalidated. `name` labels the metrics.
        """
        late = tags if callable(tags) else None
        return LoadRequest(
            name=name,
            entry=self._entry(key),
            compute=compute,
            codec=codec,
            ttl_ms=_ms(ttl_seconds),
            grace_ms=_ms(grace_seconds, 0),
            tags=() if callable(tags) else self._tags(tags),
            late_tags=None if late is None else lambda result: self._tags(late(result)),
        )

    async def read(self, request: LoadRequest) -> EarlyLookup:
        """What is stored, to be given to load() or look() later: it is not read again then."""
        return await self._loader.read(request)

    def hit(self, request: LoadRequest, early: EarlyLookup) -> Any:
        """The value that was read while it is fresh, else MISS; a call of load() or look() is to follow a MISS."""
        return self._loader.hit(request, early)

    async def load(self, request: LoadRequest, early: EarlyLookup | None = None) -> CacheResult:
        """The stored value, or the one that a run of `compute` gives; what that raises, each caller of the run gets.

        No two callers get the same object: each decodes its own. With an exact codec the caller that computes gets
        the computed object. A DoNotStore goes to the caller that computes; each other caller computes its own.
        """
        return await self._loader.load(request, early)

    async def look(self, request: LoadRequest, early: EarlyLookup | None = None) -> CacheResult:
        """The stored value while it is fresh, else MISS. Nothing is computed."""
        return await self._loader.look(request, early)

    def _entry(self, key: str) -> str:
        return _digest(self._namespace, key)

    def _tags(self, tags: TagNames) -> tuple[str, ...]:
        # Half a digest is enough: two tags that shared one would be invalidated together, which does no harm.
        if tags == ():
            return ()
        return tuple([_digest(self._namespace, tag)[:TAG_DIGITS] for tag in tag_names(tags)])

    def _count(self, name: str, amount: int) -> None:
        if amount:
            self._telemetry.count(f"cache_{name}", amount, name=UNNAMED)


def _digest(namespace: bytes, name: str) -> str:
    return _short_digest(namespace, name) if len(name) <= SHORT_NAME else _long_digest(namespace, name)


def _long_digest(namespace: bytes, name: str) -> str:
    return digest(namespace + name.encode("utf-8", "surrogatepass"))


# Names that are asked for often are hashed once.
_short_digest = lru_cache(maxsize=4096)(_long_digest)


# Each hit asks for the same few times. Typed: True is no number of seconds, though it equals 1.
@lru_cache(maxsize=256, typed=True)
def _ms(seconds: float, least: float = 0.001) -> int:
    """Whole milliseconds. ValueError, TypeError: see check_seconds()."""
    return math.ceil(check_seconds("a time to live or of grace", seconds, least=least) * 1000)
