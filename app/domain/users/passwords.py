"""Passwords, hashed by argon2id in a bounded number of threads."""

import os
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import Unavailable

T = TypeVar("T")

# OWASP, Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane. 17 ms of CPU.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)

# The hash of a random text, with the parameters above: a login without an account takes as long as one with it.
NOBODYS_HASH = "$argon2id$v=19$m=19456,t=2,p=1$VzBxAvbGTt+NtxOS7gBhLA$ZdvdjPOuHpGB797S0uIT7Pk7rPZ38HTevTL0g8t2aqE"

# A longer queue takes seconds; a 503 with Retry-After is better then.
MOST_WAITING = 200
_slots = RunVar[CapacityLimiter]("argon2_slots")


async def hash_password(password: str) -> str:
    return await _in_thread(lambda: _hasher.hash(password))


async def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether `password` is the one that was hashed. False for None (no account), in the same time."""
    matches = await _in_thread(lambda: _verify(password_hash or NOBODYS_HASH, password))
    return matches and password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether it was hashed by other parameters than now."""
    return _hasher.check_needs_rehash(password_hash)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


async def _in_thread(function: Callable[[], T]) -> T:
    """At most one a CPU: each takes 19 MiB and a whole CPU. Unavailable when MOST_WAITING wait already."""
    try:
        slots = _slots.get()
    except LookupError:
        slots = CapacityLimiter(os.cpu_count() or 1)
        _slots.set(slots)
    if slots.statistics().tasks_waiting >= MOST_WAITING:
        raise Unavailable("Too many passwords are being checked.")
    async with slots:
        return await to_thread.run_sync(function)
