"""Cache entries, their leases and the versions of tags in Redis.

An entry is valid only while each of its tags has the version that it had before the entry's value was computed. So
one UNLINK of a tag invalidates all its entries, however many, and so does the eviction of a tag.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from redis.asyncio import Redis

from app.kit.cache.entry import LookupResult, StoredEntry, Versions, decode_entry, encode_entry
from app.kit.client.deployment import deployment
from app.kit.keys import Keys
from app.kit.scripts import Argument, run_script

StoreOutcome = Literal["written", "fenced", "full"]
_OUTCOMES: dict[int, StoreOutcome] = {1: "written", 0: "fenced", -1: "full"}


class Version(NamedTuple):
    """A tag's version, and its age by the clock of the server that made it."""

    text: bytes
    age_seconds: float


@dataclass(frozen=True, slots=True)
class LeaseAttempt:
    """The reply to a request for a lease. Where it is neither granted nor a new entry found, another holds it."""

    granted: bool
    found: LookupResult | None
    versions: Mapping[str, Version]


class Entries:
    """Reads and writes entries. Entries and tags are named by digests; values are bytes; times are in ms."""

    def __init__(self, redis: Redis, keys: Keys, *, max_bytes: int, margin_ms: int, memory_percent: int | None) -> None:
        """A value of more than `max_bytes` counts as corrupt. A tag outlives its entries by `margin_ms`.

        While more than `memory_percent` of the server's memory is in use, nothing is written; None: no bound. The
        embedded store has none.
        """
        self._redis = redis
        self._keys = keys
        self._max_bytes = max_bytes
        self._margin_ms = margin_ms
        found = deployment(redis)
        self._clustered = found.is_clustered
        self._share = "" if memory_percent is None or found.is_embedded else str(memory_percent)

    def fits(self, value: bytes) -> bool:
        return len(value) <= self._max_bytes

    async def read(self, entries: Sequence[str], *, tags: Sequence[str], graced: bool) -> list[LookupResult]:
        """Look entries up: one round trip if they have no other tags than `tags`, else two.

        An entry that lacks one of `tags` is invalid. `graced`: entries may be in their grace, so their remaining
        time is requested in the first round trip.
        """
        names = [self._keys.cache_entry(entry) for entry in entries]
        asked = names + [self._keys.cache_tag(tag) for tag in tags]
        left: list[int] | None = None
        if graced:
            answers: list[Any] = await asyncio.gather(self._values(asked), *map(self._redis.pttl, names))
            values, left = answers[0], answers[1:]
        else:
            values = await self._values(asked)
        stored_entries = [self._open(raw) for raw in values[: len(names)]]
        versions: Versions = dict(zip(tags, values[len(names) :], strict=True))
        heads = [entry.head for entry in stored_entries if entry and entry.head]
        if not all(versions.keys() >= head.versions.keys() for head in heads):
            versions = await self._complete(dict(versions), stored_entries)
        if left is None and any(head.grace_ms for head in heads):
            left = await asyncio.gather(*map(self._redis.pttl, names))
        return [
            stored_entry.validate(versions=versions, required=tags, left_ms=left_ms)
            if stored_entry
            else LookupResult("absent")
            for stored_entry, left_ms in zip(stored_entries, left or [0] * len(names), strict=True)
        ]

    async def attempt(
        self, entry: str, *, token: str, lease_ms: int, mark: bytes, tags: Sequence[str], life_ms: int
    ) -> LeaseAttempt:
        """Ask for the entry's lease, and for the versions that `tags` have before anything is computed.

        `mark` is that of the entry that the caller cannot use; an entry with another mark is returned instead.
        """
        names = [self._keys.cache_entry(entry), self._keys.cache_lease(entry)]
        reply, *replies = await asyncio.gather(
            run_script(self._redis, "cache/lease", keys=names, args=[token, lease_ms, mark], repeatable=True),
            *self._tag_scripts(tags, token=token, life_ms=life_ms),
        )
        versions = dict(zip(tags, map(_version, replies), strict=True))
        if len(reply) == 1:
            return LeaseAttempt(bool(reply[0]), None, versions)
        _, raw, left_ms = reply
        stored_entry = decode_entry(raw, max_bytes=self._max_bytes)
        known = await self._complete({tag: version.text for tag, version in versions.items()}, [stored_entry])
        return LeaseAttempt(False, stored_entry.validate(versions=known, required=tags, left_ms=left_ms), versions)

    async def versions(self, tags: Sequence[str], *, token: str, life_ms: int) -> dict[str, Version]:
        """The version of each tag, in one batch. A tag that has none gets one, which outlives `life_ms`."""
        replies = await asyncio.gather(*self._tag_scripts(tags, token=token, life_ms=life_ms))
        return dict(zip(tags, map(_version, replies), strict=True))

    async def store(
        self, entry: str, value: bytes, *, token: str, held: bool, life_ms: int, grace_ms: int, versions: Versions
    ) -> StoreOutcome:
        """Write an entry that lives for `life_ms`, its grace included.

        With `held` it is written only while the token holds the lease, else it is "fenced". Without `held` the holder
        of the lease loses it, so that it cannot overwrite this entry. "full": the server's memory is short.
        """
        names = [self._keys.cache_entry(entry), self._keys.cache_lease(entry)]
        encoded = encode_entry(value, token=token, grace_ms=grace_ms, versions=versions)
        args: list[Argument] = [token if held else "", encoded, life_ms, self._share]
        written, *_ = await asyncio.gather(
            run_script(self._redis, "cache/store", keys=names, args=args),
            *(self._redis.pexpire(self._keys.cache_tag(tag), life_ms + self._margin_ms, gt=True) for tag in versions),
        )
        return _OUTCOMES[written]

    async def renew(self, entry: str, *, token: str, lease_ms: int) -> bool:
        """Hold the lease for `lease_ms` from now; 0 releases it. False: the token does not hold it any more."""
        names = [self._keys.cache_lease(entry)]
        return bool(await run_script(self._redis, "cache/renew", keys=names, args=[token, lease_ms], repeatable=True))

    async def delete(self, entries: Iterable[str]) -> None:
        """Delete entries and their leases, so that runs under way cannot store."""
        pairs = [(self._keys.cache_entry(entry), self._keys.cache_lease(entry)) for entry in entries]
        await asyncio.gather(*(self._unlink(*pair) for pair in pairs))

    async def invalidate(self, tags: Iterable[str]) -> None:
        """Invalidate all entries of these tags: one UNLINK a tag, in one batch, because each has its own hash slot."""
        await asyncio.gather(*(self._unlink(self._keys.cache_tag(tag)) for tag in tags))

    def _values(self, names: Sequence[str]) -> Coroutine[Any, Any, list[bytes | None]]:
        """The strings under these keys, in one round trip; None for a key that is missing or of another type."""
        if names and (not self._clustered or len(names) == 1):
            return self._redis.execute_command("MGET", *names)
        return self._one_by_one(names)

    async def _one_by_one(self, names: Sequence[str]) -> list[bytes | None]:
        # The keys are in many slots: one command each, in one tick of the loop, which is one batch a node.
        found = await asyncio.gather(*(self._redis.execute_command("MGET", name) for name in names))
        return [cast(bytes | None, value) for [value] in found]

    def _tag_scripts(self, tags: Sequence[str], *, token: str, life_ms: int) -> list[Awaitable[Any]]:
        args: list[Argument] = [token, life_ms + self._margin_ms, self._share]
        names = [self._keys.cache_tag(tag) for tag in tags]
        return [run_script(self._redis, "cache/tag", keys=[name], args=args, repeatable=True) for name in names]

    async def _unlink(self, *names: str) -> None:
        # Keys of one slot. The cluster client's own unlink() bypasses the automatic pipeline.
        await self._redis.execute_command("UNLINK", *names)

    async def _complete(self, known: dict[str, bytes | None], stored_entries: Sequence[StoredEntry | None]) -> Versions:
        """Add the versions of those tags that only the entries name."""
        if missing := list({tag for entry in stored_entries if entry for tag in entry.tags if tag not in known}):
            values = await self._values([self._keys.cache_tag(tag) for tag in missing])
            known.update(zip(missing, values, strict=True))
        return known

    def _open(self, raw: bytes | None) -> StoredEntry | None:
        return None if raw is None else decode_entry(raw, max_bytes=self._max_bytes)


def _version(reply: tuple[bytes, bytes]) -> Version:
    text, age_us = reply
    return Version(text, int(age_us) / 1e6)
