"""The store embedded in this process (memory://)."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from fakeredis import FakeAsyncRedis, FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection
from redis.asyncio.connection import AbstractConnection


class EmbeddedConnection(FakeAsyncRedisConnection):
    """fakeredis' connection, whose commands are cancelled as those of a connection to a server are.

    It waits by asyncio.wait_for(), which on Python 3.11 returns although the task was cancelled, where what it waits
    for comes in the same turn of the loop (bpo-37658): a loop of commands under a timeout would then never end.
    """

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        await self._cancellable(super().send_packed_command(*arguments, **options))

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        return await self._cancellable(super().read_response(*arguments, **options))

    async def _cancellable(self, work: Awaitable[Any]) -> Any:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        result = await work
        if task and task.cancelling() > before:
            await self.disconnect(nowait=True)
            raise asyncio.CancelledError
        return result


class EmbeddedRedis(FakeAsyncRedis):
    """fakeredis with a store that no other client shares."""

    is_embedded = True
    is_clustered = False

    def __init__(self, *, name: str) -> None:
        # Its connections are objects in this process, so their number needs no bound (redis-py's default is 100).
        super().__init__(
            server=FakeServer(), client_name=name, max_connections=1 << 31, connection_class=EmbeddedConnection
        )

    async def pubsub_connection(self, key: str) -> AbstractConnection:
        connection: AbstractConnection = self.connection_pool.make_connection()
        return connection

    def stats(self) -> dict[str, dict[str, Any]]:
        return {}
