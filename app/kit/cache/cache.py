"""Cache: values with a time to live and tags, computed once however many callers and processes ask."""

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from functools import partial
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.cache.arguments import encode_arguments
from app.kit.cache.entries import Entries
from app.kit.cache.entry import TOKEN_BYTES
from app.kit.cache.filler import Filler
from app.kit.cache.loader import Loader
from app.kit.cache.model import MISS, CacheResult, Codec, LoadRequest, json_codec
from app.kit.cache.single_flight import SingleFlight
from app.kit.cache.tags import TagNames, tag_names
from app.kit.keys import Keys, digest
from app.kit.telemetry import NoTelemetry, Telemetry

T = TypeVar("T")

MAX_VALUE_BYTES = 4 << 20
# How many leases a caller waits for others before it computes for itself.
MAX_WAIT_LEASES = 3
UNNAMED = "unnamed"
TAG_DIGITS = 32


class Cache:
    """Values under keys, with tags. Keys and tags are any strings; Redis sees them hashed.

    A Redis that is down, full or read-only is passed by: values are computed, one run at a time in each process.
    Only delete() and invalidate_tags() raise then.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        telemetry: Telemetry | None = None,
        lease_seconds: float = 10.0,
        max_bytes: int = MAX_VALUE_BYTES,
    ) -> None:
        """A process that dies while it computes is replaced after `lease_seconds`. Larger values are not stored."""
        max_wait_seconds = MAX_WAIT_LEASES * lease_seconds
        self._telemetry = telemetry or NoTelemetry()
        self._entries = Entries(redis, keys, max_bytes=max_bytes, margin_ms=_ms(lease_seconds))
        filler = Filler(
            self._entries,
            telemetry=self._telemetry,
            lease_seconds=lease_seconds,
            max_wait_seconds=max_wait_seconds,
        )
        flights = SingleFlight(max_wait_seconds=max_wait_seconds)
        self._loader = Loader(self._entries, filler, flights, telemetry=self._telemetry)
        self._names: tuple[str, ...] = ()
        self._namespace = encode_arguments(self._names)

    def in_namespace(self, *names: str) -> "Cache":
        """The same cache with keys and tags of its own, such as one tenant's; within a namespace, one inside it."""
        inner = copy(self)
        inner._names = (*self._names, *names)
        inner._namespace = encode_arguments(inner._names)
        return inner

    async def get(self, key: str, *, tags: TagNames = (), type: Any = Any) -> Any:
        """The value, decoded as `type`, or MISS. See get_many()."""
        return (await self.get_many([key], tags=tags, type=type)).get(key, MISS)

    async def get_many(self, keys: Iterable[str], *, tags: TagNames = (), type: Any = Any) -> dict[str, Any]:
        """The values that are there. One round trip where `tags` are all that they were stored with, else two.

        A value that was stored without one of `tags` is not there.
        """
        entries = {key: self._entry(key) for key in keys}
        codec = json_codec(type)
        try:
            found = await self._entries.read(list(entries.values()), tags=self._tags(tags), graced=False)
        except RedisError:
            # Fails open: nothing is found.
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
        """Store values, all with the same tags; what is being computed under their keys now is not stored over them.

        False where Redis does not take them, or one is too large. An invalidation between the reading of what a
        value rests on and this call goes unnoticed: get_or_compute() has no such gap.
        """
        encode = json_codec(Any).encode
        encoded = {self._entry(key): encode(value) for key, value in values.items()}
        small = {entry: value for entry, value in encoded.items() if self._entries.fits(value)}
        token, life_ms = secrets.token_hex(TOKEN_BYTES), _ms(ttl_seconds)
        try:
            versions = await self._entries.versions(self._tags(tags), token=token, life_ms=life_ms)
            texts = {tag: version.text for tag, version in versions.items()}
            store = partial(self._entries.store, token=token, held=False, life_ms=life_ms, grace_ms=0, versions=texts)
            await asyncio.gather(*(store(entry, value) for entry, value in small.items()))
            self._count("stored_bytes", sum(map(len, small.values())))
        except RedisError:
            # Fails open: who asks for the value computes it.
            self._count("bypassed", len(encoded))
            return False
        return len(small) == len(encoded)

    async def delete(self, *keys: str) -> None:
        """Delete values. What is being computed under their keys now goes to its callers, but is not stored.

        Fails closed: raises where Redis does not answer, because the old values may be served on.
        """
        await self._entries.delete([self._entry(key) for key in keys])

    async def invalidate_tags(self, *tags: str) -> None:
        """Once this has returned, nothing computed before is served under these tags to anyone who comes later.

        To be called after the commit that it announces. Fails closed: raises where Redis does not answer.
        """
        await self._entries.invalidate(self._tags(tags))

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Awaitable[T]],
        *,
        ttl_seconds: float,
        tags: TagNames | Callable[[T], TagNames] = (),
        grace_seconds: float = 0.0,
        type: Any = Any,
        name: str = UNNAMED,
    ) -> T:
        """fetch() of a value that is kept as JSON; it is decoded as `type`, also for who has computed it."""
        request = self._request(
            key,
            compute,
            ttl_seconds=ttl_seconds,
            tags=tags,
            grace_seconds=grace_seconds,
            codec=json_codec(type),
            name=name,
        )
        value: T = (await self._loader.fetch(request)).value
        return value

    async def fetch(
        self,
        key: str,
        compute: Callable[[], Awaitable[T]],
        *,
        ttl_seconds: float,
        tags: TagNames | Callable[[T], TagNames],
        grace_seconds: float,
        codec: Codec,
        name: str,
        fills: bool = True,
    ) -> CacheResult:
        """The stored value, or that of `compute`, which must read primary databases only: a replica may lag.

        `tags` may be found from the result. For `grace_seconds` after `ttl_seconds` a value still serves while
        another caller computes, unless one of its tags was invalidated. `name` labels the metrics. Where `fills` is
        off and nothing is stored, Uncacheable is raised, and nobody computes.
        """
        request = self._request(
            key,
            compute,
            ttl_seconds=ttl_seconds,
            tags=tags,
            grace_seconds=grace_seconds,
            codec=codec,
            name=name,
            fills=fills,
        )
        return await self._loader.fetch(request)

    def _request(
        self,
        key: str,
        compute: Callable[[], Awaitable[T]],
        *,
        ttl_seconds: float,
        tags: TagNames | Callable[[T], TagNames],
        grace_seconds: float,
        codec: Codec,
        name: str,
        fills: bool = True,
    ) -> LoadRequest:
        late = tags if callable(tags) else None
        return LoadRequest(
            name=name,
            entry=self._entry(key),
            compute=compute,
            codec=codec,
            ttl_ms=_ms(ttl_seconds),
            grace_ms=_ms(grace_seconds) if grace_seconds else 0,
            tags=() if callable(tags) else self._tags(tags),
            late_tags=None if late is None else lambda result: self._tags(late(result)),
            fills=fills,
        )

    def _entry(self, key: str) -> str:
        return digest(self._namespace + key.encode("utf-8", "surrogatepass"))

    def _tags(self, tags: TagNames) -> tuple[str, ...]:
        """Half a digest each: two tags that shared one would only be invalidated together."""
        names = (self._namespace + tag.encode("utf-8", "surrogatepass") for tag in tag_names(tags))
        return tuple(digest(name)[:TAG_DIGITS] for name in names)

    def _count(self, name: str, amount: int) -> None:
        if amount:
            self._telemetry.count(f"cache_{name}", amount, name=UNNAMED)


def _ms(seconds: float) -> int:
    """Whole milliseconds, at least one; ValueError for no time at all."""
    if seconds <= 0:
        raise ValueError(f"a time to live must be more than 0 seconds, not {seconds}")
    return math.ceil(seconds * 1000)
