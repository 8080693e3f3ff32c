"""A lease: the right to compute one cache entry, for one process at a time.

After Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013), section 3.2.1. Here the lease is renewed for as
long as its holder lives, and its token is a fencing token: a holder that has lost the lease cannot write any more.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from app.kit.cache.entries import Entries, LeaseAttempt, StoreOutcome, Version
from app.kit.cache.entry import TOKEN_BYTES
from app.kit.cache.model import BLOCK, LoadRequest
from app.kit.client.errors import record_failure
from app.kit.telemetry import Telemetry

RENEWALS_PER_LEASE = 3


class Lease:
    """One run's lease on one entry."""

    def __init__(self, entries: Entries, request: LoadRequest, *, seconds: float, telemetry: Telemetry) -> None:
        self._entries = entries
        self._request = request
        self._seconds = seconds
        self._telemetry = telemetry
        self._token = secrets.token_hex(TOKEN_BYTES)
        self._asked_at = 0.0
        self._versions: Mapping[str, Version] = {}
        self._ended = False

    async def ask(self, *, mark: bytes) -> LeaseAttempt:
        """Ask for the lease, as often as necessary. `mark`: see Entries.attempt."""
        self._asked_at = time.monotonic()
        attempt = await self._entries.attempt(
            self._request.entry,
            token=self._token,
            lease_ms=round(self._seconds * 1000),
            mark=mark,
            tags=self._request.tags,
            life_ms=self._request.life_ms,
        )
        self._versions = attempt.versions
        return attempt

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renews the granted lease until the block ends, then releases it, if store() has not.

        A block that is cancelled, which happens when the event loop ends, leaves the lease to expire.
        """
        renewal = asyncio.create_task(self._renew())
        try:
            yield
        except Exception:
            await self._release()
            raise
        else:
            await self._release()
        finally:
            renewal.cancel()

    async def late_versions(self, tags: tuple[str, ...]) -> Mapping[str, Version] | None:
        """The versions of tags that depend on the result; None where one of them is younger than the compute.

        Such a tag may have been invalidated during the compute, after the compute had read the old data.
        """
        found = await self._entries.versions(tags, token=self._token, life_ms=self._request.life_ms)
        elapsed_seconds = time.monotonic() - self._asked_at
        # Each tag's age is by the clock of its own server, because the clocks of a cluster's nodes differ.
        return None if any(version.age_seconds <= elapsed_seconds for version in found.values()) else found

    async def store(self, value: bytes, *, late: Mapping[str, Version]) -> StoreOutcome:
        """Write the value and end the lease. "fenced": the lease was lost before. "full": memory is short."""
        outcome = await self._entries.store(
            self._request.entry,
            value,
            token=self._token,
            held=True,
            life_ms=self._request.life_ms,
            grace_ms=self._request.grace_ms,
            versions={tag: version.text for tag, version in {**self._versions, **late}.items()},
        )
        self._ended = True
        return outcome

    async def _release(self) -> None:
        if not self._ended:
            # Fails open: a lease that cannot be released expires.
            await self._extend(lease_ms=0)

    async def _renew(self) -> None:
        is_held = True
        while is_held:
            await asyncio.sleep(self._seconds / RENEWALS_PER_LEASE)
            # Fails open: a lease that expires lets another process compute, and this one can no longer store.
            is_held = await self._extend(lease_ms=round(self._seconds * 1000))

    async def _extend(self, *, lease_ms: int) -> bool:
        """False: the lease is lost. An error says nothing of that."""
        try:
            return await self._entries.renew(self._request.entry, token=self._token, lease_ms=lease_ms)
        except RedisError as error:
            record_failure(error, block=BLOCK, telemetry=self._telemetry)
            return True
