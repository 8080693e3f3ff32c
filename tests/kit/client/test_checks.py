import logging

import pytest
from redis.asyncio import Redis

from app.kit.client.checks import warn_if_not_durable
from app.kit.client.connect import connect
from tests.services import RedisServer


@pytest.mark.server
async def test_what_would_lose_tasks_is_told(own_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    redis = connect(own_server.url, name="durability", timeout_seconds=5)
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING):
        found = await warn_if_not_durable(redis)
    assert [warning.split()[0] for warning in found] == ["maxmemory-policy", "appendonly"]
    assert len(caplog.records) == 2
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("appendonly", "yes")
    assert await warn_if_not_durable(redis) == []
    own_server.kill()
    assert await warn_if_not_durable(redis) == []
    await redis.aclose()


async def test_the_embedded_store_has_nothing_to_tell() -> None:
    redis: Redis = connect("memory://", name="durability", timeout_seconds=5)
    assert await warn_if_not_durable(redis) == []
    await redis.aclose()
