"""The connections of a client that listen to pub/sub, counted."""

from weakref import WeakSet

from redis.asyncio.connection import AbstractConnection


class Listening:
    """Whoever takes a connection closes it; here it is only counted for as long as it is open."""

    def __init__(self) -> None:
        self._connections: WeakSet[AbstractConnection] = WeakSet()

    def add(self, connection: AbstractConnection) -> AbstractConnection:
        self._connections.add(connection)
        return connection

    def count(self) -> int:
        return sum(connection.is_connected for connection in self._connections)
