"""Hashing of passwords, and its bounds."""

import asyncio

import pytest
from argon2 import PasswordHasher, extract_parameters

from app.errors import Unavailable
from app.passwords import Passwords
from app.settings import SettingsError, load_settings

PASSWORD = "pässwörd \0 🔑"
CHEAP = {"time_cost": 1, "memory_kib": 64, "parallelism": 1}


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(**CHEAP)


async def test_a_password_is_known_by_its_hash_alone(passwords: Passwords) -> None:
    hashed = await passwords.hash(PASSWORD)
    assert hashed.startswith("$argon2id$")
    assert await passwords.hash(PASSWORD) != hashed
    assert await passwords.verify(hashed, PASSWORD)
    assert not await passwords.verify(hashed, PASSWORD + " ")
    assert not passwords.is_outdated(hashed)
    assert passwords.is_outdated(PasswordHasher(time_cost=2, memory_cost=64, parallelism=1).hash(PASSWORD))


@pytest.mark.parametrize("broken", [None, "", "no hash", "$argon2id$v=19$m=1"])
async def test_without_a_hash_no_password_is_right(passwords: Passwords, broken: str | None) -> None:
    assert not await passwords.verify(broken, PASSWORD)


@pytest.mark.parametrize("parameters", [CHEAP, {"time_cost": 3, "memory_kib": 512, "parallelism": 2}])
async def test_without_an_account_the_work_is_that_of_a_hash_by_the_same_parameters(
    parameters: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = Passwords(**parameters)
    verified: list[str] = []
    verify = PasswordHasher.verify

    def recorded(hasher: PasswordHasher, hash: str, password: str) -> bool:
        verified.append(hash)
        return verify(hasher, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", recorded)
    hashed = await passwords.hash(PASSWORD)
    for given in (hashed, None):
        await passwords.verify(given, "wrong")
    assert verified[0] == hashed
    assert extract_parameters(verified[1]) == extract_parameters(hashed)
    assert not passwords.is_outdated(verified[1])


async def test_too_many_at_once_are_told_to_come_back() -> None:
    passwords = Passwords(**CHEAP, threads=1, max_waiting=2)
    results = await asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(result, Unavailable) for result in results) == 3
    assert await passwords.hash(PASSWORD)


def test_parameters_that_argon2_refuses_stop_the_start() -> None:
    with pytest.raises(SettingsError, match="ARGON2_MEMORY_KIB"):
        load_settings({"ARGON2_MEMORY_KIB": "15", "ARGON2_PARALLELISM": "2"})
