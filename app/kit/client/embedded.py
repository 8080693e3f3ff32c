"""The store embedded in this process (memory://)."""

from typing import Any

from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio.connection import AbstractConnection


class EmbeddedRedis(FakeAsyncRedis):
    """fakeredis with a store that no other client shares."""

    is_embedded = True
    is_clustered = False

    def __init__(self, *, name: str) -> None:
        # Its connections are objects in this process, so their number needs no bound (redis-py's default is 100).
        super().__init__(server=FakeServer(), client_name=name, max_connections=1 << 31)

    async def pubsub_connection(self, key: str) -> AbstractConnection:
        connection: AbstractConnection = self.connection_pool.make_connection()
        return connection

    def stats(self) -> dict[str, dict[str, Any]]:
        return {}
