"""A lease: the right to compute one cache entry, for one process at a time.

After Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013), section 3.2.1. Here the lease is renewed for as
long as its holder lives, and its token fences out whoever writes after having lost it.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from redis.exceptions import RedisError

from app.kit.cache.entries import Entries, LeaseAttempt, Version
from app.kit.cache.entry import TOKEN_BYTES
from app.kit.cache.model import LoadRequest

RENEWALS_PER_LEASE = 3


class Lease:
    """One caller's lease on one entry, asked for as often as it takes."""

    def __init__(self, entries: Entries, request: LoadRequest, *, seconds: float) -> None:
        self._entries = entries
        self._request = request
        self._seconds = seconds
        self._token = secrets.token_hex(TOKEN_BYTES)
        self._asked_at = 0.0
        self._versions: Mapping[str, Version] = {}
        self._over = False

    async def ask(self, *, seen: bytes) -> LeaseAttempt:
        """Ask for the lease. `seen` is the mark of the entry that was found to be of no use."""
        self._asked_at = time.monotonic()
        attempt = await self._entries.attempt(
            self._request.entry,
            token=self._token,
            lease_ms=round(self._seconds * 1000),
            seen=seen,
            tags=self._request.tags,
            life_ms=self._request.life_ms,
        )
        self._versions = attempt.versions
        return attempt

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renews the lease that was granted until the block ends, and then gives it up, if store() has not.

        A block that is cancelled, which happens when the event loop ends, leaves it to expire.
        """
        renewal = asyncio.create_task(self._renew())
        try:
            yield
        except Exception:
            await self._give_up()
            raise
        else:
            await self._give_up()
        finally:
            renewal.cancel()

    async def late_versions(self, tags: tuple[str, ...]) -> Mapping[str, Version] | None:
        """The versions of tags that only the result told; None where one of them is younger than the compute.

        Such a tag may have been invalidated while the value was computed, which then may be older than that.
        """
        found = await self._entries.versions(tags, token=self._token, life_ms=self._request.life_ms)
        elapsed_seconds = time.monotonic() - self._asked_at
        # Each tag's age is by the clock of its own server, because the clocks of a cluster's nodes differ.
        return None if any(version.age_seconds <= elapsed_seconds for version in found.values()) else found

    async def store(self, value: bytes, *, late: Mapping[str, Version]) -> bool:
        """Write the value and end the lease. False: the lease was lost, and the late writer is fenced out."""
        written = await self._entries.store(
            self._request.entry,
            value,
            token=self._token,
            held=True,
            life_ms=self._request.life_ms,
            grace_ms=self._request.grace_ms,
            versions={tag: version.text for tag, version in {**self._versions, **late}.items()},
        )
        self._over = True
        return written

    async def _give_up(self) -> None:
        if not self._over:
            # Fails open: a lease that cannot be given up expires.
            with suppress(RedisError):
                await self._entries.renew(self._request.entry, token=self._token, lease_ms=0)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / RENEWALS_PER_LEASE)
            # Fails open: a lease that expires lets another compute, and fences this one out.
            with suppress(RedisError):
                if not await self._entries.renew(
                    self._request.entry, token=self._token, lease_ms=round(self._seconds * 1000)
                ):
                    return
