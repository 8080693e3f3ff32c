"""Who has written a moment ago: while a replica may lag, they read their own changes from the primary."""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client.errors import record_failure
from app.kit.keys import Keys
from app.kit.telemetry import Telemetry
from app.principal import current_user_id


class RecentWriters:
    """The principals of requests that have committed, on any node, within `seconds`."""

    def __init__(self, redis: Redis, keys: Keys, *, seconds: float, telemetry: Telemetry) -> None:
        self._redis = redis
        self._keys = keys
        self._seconds = seconds
        self._telemetry = telemetry

    async def note(self) -> None:
        """The principal of the running request has committed."""
        user_id = current_user_id.get()
        if user_id is None or not self._seconds:
            return
        try:
            await self._redis.set(self._key(user_id), b"", px=max(1, int(self._seconds * 1000)))
        except RedisError as error:
            # Fails open: the write is committed. While Redis is down, principals read the primary in any case.
            record_failure(error, block="database", telemetry=self._telemetry)

    async def has_written(self) -> bool:
        """Whether the principal of the running request has. True while Redis does not say."""
        user_id = current_user_id.get()
        if user_id is None or not self._seconds:
            return False
        try:
            return bool(await self._redis.exists(self._key(user_id)))
        except RedisError as error:
            # Fails to the safe side: the primary has every change.
            record_failure(error, block="database", telemetry=self._telemetry)
            return True

    def _key(self, user_id: int) -> str:
        return self._keys.own(f"wrote:{user_id}")
