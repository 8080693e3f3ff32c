"""Hashing of passwords, and its bounds."""

import asyncio
import os

import pytest
from argon2 import PasswordHasher

from app.domain.users import passwords
from app.domain.users.passwords import NOBODYS_HASH, hash_password, is_outdated, verify_password
from app.errors import Unavailable

PASSWORD = "pässwörd \0 🔑"


async def test_a_password_is_known_by_its_hash_alone() -> None:
    hashed = await hash_password(PASSWORD)
    assert hashed.startswith("$argon2id$")
    assert await hash_password(PASSWORD) != hashed
    assert await verify_password(hashed, PASSWORD)
    assert not await verify_password(hashed, PASSWORD + " ")
    assert not is_outdated(hashed)
    # Whoever has no account is checked against a hash that costs as much.
    assert not is_outdated(NOBODYS_HASH)
    assert is_outdated(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD))


@pytest.mark.parametrize("broken", [None, "", "no hash", "$argon2id$v=19$m=1"])
async def test_without_a_hash_no_password_is_right(broken: str | None) -> None:
    assert not await verify_password(broken, PASSWORD)


async def test_too_many_at_once_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MOST_WAITING", 2)
    count = (os.cpu_count() or 1) + 5
    results = await asyncio.gather(*(hash_password(PASSWORD) for _ in range(count)), return_exceptions=True)
    assert sum(isinstance(result, Unavailable) for result in results) == 3
    assert await hash_password(PASSWORD)
