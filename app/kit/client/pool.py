"""Pools of connections whose callers wait for one while all are in use, as long as their own deadline lets them."""

import asyncio
from collections import deque
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import MaxConnectionsError


class WaitingPool(ConnectionPool):
    """A pool that does not refuse: its callers bound the wait.

    Not redis-py's BlockingConnectionPool: the pool of a Sentinel's primary has no such form, and asyncio's Condition,
    on which it is built, loses the wake of a waiter that is cancelled (before Python 3.13).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        while True:
            try:
                return await super().get_connection()  # type: ignore[no-untyped-call]
            except MaxConnectionsError:
                await self._wait()

    async def release(self, connection: AbstractConnection) -> None:
        try:
            await super().release(connection)
        finally:
            self._wake()

    async def _wait(self) -> None:
        """Until a connection is released; the first to wait is the first to be woken."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # It was this one's turn: the next has it.
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class WaitingSentinelPool(WaitingPool, SentinelConnectionPool):
    """The same for the connections to a Sentinel's primary."""
