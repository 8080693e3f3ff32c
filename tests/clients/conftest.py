"""A Redis server outlives the application, and with it what was published."""

import pytest
from redis.asyncio import Redis

from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from tests.services import RedisServer


@pytest.fixture
def served_settings(redis_server: RedisServer, keys: Keys) -> dict[str, str]:
    return {"REDIS_URL": redis_server.url, "NAMESPACE": keys.namespace}


@pytest.fixture
def publisher(real_redis: Redis, keys: Keys) -> Publisher:
    """Publishes while no server runs, too."""
    return Publisher(real_redis, keys)
