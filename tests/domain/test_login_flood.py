"""A flood of logins: bounded hashing, a loop that goes on, and answers for all."""

import asyncio
import threading

import pytest

from app.resources import Resources
from app.settings import Settings
from tests.domain.client import Client


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With hashes of the cost that the service has."""
    costs = ("argon2_time_cost", "argon2_memory_kib")
    return settings.model_copy(update={name: Settings.model_fields[name].default for name in costs})


class Gauge:
    """How many hashes are computed at this moment, and how many were at most."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize("logins", [60, pytest.param(200, marks=pytest.mark.long)])
async def test_logins_at_once_are_answered_while_the_loop_goes_on(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch, logins: int
) -> None:
    gauge, verify = Gauge(), resources.passwords._verify

    def gauged(password_hash: str, password: str) -> bool:
        with gauge:
            return verify(password_hash, password)

    monkeypatch.setattr(resources.passwords, "_verify", gauged)
    others = 0

    async def log_in(number: int) -> int:
        elsewhere = client.with_headers(X_Forwarded_For=f"198.51.{number // 250}.{number % 250}")
        return (await elsewhere.log_in(f"nobody{number}", password="wrong")).status_code

    flood = asyncio.gather(*(log_in(number) for number in range(logins)))
    while not flood.done():
        answer = await client.app.test_client(use_cookies=False).get("/health/live")
        assert answer.status_code == 200
        others += 1
    statuses = await flood
    assert set(statuses) <= {401, 503}
    assert statuses.count(401) == gauge.total
    # Memory: one hash takes ARGON2_MEMORY_KIB, so this bounds what all take together.
    assert gauge.most <= resources.passwords.threads
    # Other requests are answered between the logins, and do not wait for the last of them.
    assert others > 20
