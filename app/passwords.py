"""Passwords, hashed by argon2id (RFC 9106) in a bounded number of threads."""

import os
import secrets
from base64 import b64encode
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import Unavailable

T = TypeVar("T")

# A longer queue takes seconds; a 503 with Retry-After is better then.
MAX_WAITING = 200


class Passwords:
    """Hashes and verifies passwords outside the loop. Each hash takes a CPU and the memory that the parameters say."""

    def __init__(
        self,
        *,
        time_cost: int,
        memory_kib: int,
        parallelism: int,
        threads: int | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`threads`: how many hashes are computed at once; by default one CPU is left to the event loop."""
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=parallelism)
        self._dummy_hash = _dummy_hash(time_cost=time_cost, memory_kib=memory_kib, parallelism=parallelism)
        self.threads = threads or max(1, (os.cpu_count() or 1) - 1)
        self._slots = CapacityLimiter(self.threads)
        self._max_waiting = max_waiting

    async def hash(self, password: str) -> str:
        """Unavailable: too many wait already. So do the other methods that compute a hash."""
        return await self._in_thread(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether `password` is the one that was hashed. False for None (no account), after the same work."""
        return await self._in_thread(lambda: self._verify(password_hash or self._dummy_hash, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Whether it was hashed by other parameters than now."""
        return self._hasher.check_needs_rehash(password_hash)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, function: Callable[[], T]) -> T:
        if self._slots.statistics().tasks_waiting >= self._max_waiting:
            raise Unavailable("Too many passwords are being checked.")
        async with self._slots:
            return await to_thread.run_sync(function)


def _dummy_hash(*, time_cost: int, memory_kib: int, parallelism: int) -> str:
    """A hash of no password, which takes as long to verify as one of these parameters: its digest is random."""
    salt, random = (b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in (16, 32))
    return f"$argon2id$v=19$m={memory_kib},t={time_cost},p={parallelism}${salt}${random}"
