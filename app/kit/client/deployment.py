"""What depends on the deployment of Redis, asked of its client."""

from typing import Any, Protocol, cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection


class DeploymentClient(Protocol):
    """What the client of each deployment has beside redis-py's methods."""

    @property
    def is_embedded(self) -> bool:
        """The store is in this process: it has no INFO and no CONFIG, and no other process sees it."""

    @property
    def is_clustered(self) -> bool:
        """Each command must keep to keys of one hash slot."""

    async def pubsub_connection(self, key: str) -> AbstractConnection:
        """An unconnected connection for pub/sub, to the server that has `key`. The caller closes it."""

    def stats(self) -> dict[str, dict[str, Any]]:
        """State and counters of each server's pipeline, by the server's name. `dedicated`: connections beside it."""


def deployment(redis: Redis) -> DeploymentClient:
    """The same client. connect() makes one of these always, but redis-py's two clients share no type that says so."""
    return cast(DeploymentClient, redis)
