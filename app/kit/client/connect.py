"""connect(): the Redis client for a URL, of any deployment."""

from typing import Any, cast

from redis.asyncio import Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.kit.client.cluster import PipelinedCluster
from app.kit.client.deployment import deployment
from app.kit.client.embedded import EmbeddedRedis
from app.kit.client.pool import WaitingPool, WaitingSentinelPool
from app.kit.client.redispy import SHORT_HANDSHAKE
from app.kit.client.sentinel import Sentinels
from app.kit.client.standalone import PipelinedRedis
from app.kit.client.url import TLS_FILES, Target, parse_url

CONNECT_TIMEOUT_SECONDS = 1.0
SENTINEL_TIMEOUT_SECONDS = 0.3


def connect(url: str, *, name: str, timeout_seconds: float, max_connections: int = 64) -> Redis:
    """A client that answers in bytes. Nothing is opened before the first command. BadURL says what is wrong in `url`.

    `name` is what CLIENT LIST shows for its connections. A command that gets no answer within `timeout_seconds`, or
    within the budget of the running work, raises redis.exceptions.TimeoutError. `max_connections` bounds those beside
    the pipeline; a caller waits for one of them for as long.
    """
    target = parse_url(url)
    if target.kind == "memory":
        return cast(Redis, EmbeddedRedis(name=name))
    options = _connection_options(target, name) | {"max_connections": max_connections}
    if target.kind == "cluster":
        seeds = target.addresses
        cluster = PipelinedCluster(seeds=seeds, timeout_seconds=timeout_seconds, ssl=target.tls, **options)
        # The two clients have the same typed methods, but no common type that says so.
        return cast(Redis, cluster)
    if target.kind == "sentinel":
        sentinel = _sentinel(target, options)
        # Each connect of the pool asks the sentinels which server is the primary.
        pool = WaitingSentinelPool(target.service, sentinel, ssl=target.tls, **options)
        return PipelinedRedis(pool=pool, timeout_seconds=timeout_seconds, sentinels=sentinel.sentinels)
    return PipelinedRedis(pool=_pool(target, options), timeout_seconds=timeout_seconds)


async def pubsub_connection(redis: Redis, key: str) -> AbstractConnection:
    """An unconnected connection for pub/sub; on a cluster, to the node that has `key`. The caller closes it."""
    return await deployment(redis).pubsub_connection(key)


def client_stats(redis: Redis) -> dict[str, dict[str, Any]]:
    """State and counters of each server's pipeline, by the server's name; none for the embedded store."""
    return deployment(redis).stats()


def _connection_options(target: Target, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "client_name": name,
        "username": target.username,
        "password": target.password,
        # Each wait has its bound outside the connection: a blocking command may wait longer than any other.
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        **SHORT_HANDSHAKE,
    }
    if target.kind != "unix":
        options |= {"socket_keepalive": True, "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS}
    if target.kind != "cluster":
        options |= {"db": target.database}
    if target.tls:
        options |= {key: value for key, value in target.options.items() if key in TLS_FILES}
        options |= {"ssl_check_hostname": target.options.get("ssl_check_hostname") != "false"}
    return options


def _pool(target: Target, options: dict[str, Any]) -> WaitingPool:
    if target.kind == "unix":
        return WaitingPool(connection_class=UnixDomainSocketConnection, path=target.path, **options)
    [(host, port)] = target.addresses
    return WaitingPool(connection_class=SSLConnection if target.tls else Connection, host=host, port=port, **options)


def _sentinel(target: Target, options: dict[str, Any]) -> Sentinels:
    asking = {key: value for key, value in options.items() if key not in {"db", "username", "password"}}
    asking |= {
        "username": target.options.get("sentinel_username"),
        "password": target.options.get("sentinel_password"),
        # Short, so that after a sentinel that does not answer there is time to connect to the server.
        "socket_timeout": SENTINEL_TIMEOUT_SECONDS,
        "socket_connect_timeout": SENTINEL_TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "ssl": target.tls,
    }
    return Sentinels(target.addresses, sentinel_kwargs=asking)
