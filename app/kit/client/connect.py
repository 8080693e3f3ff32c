"""connect(): one Redis client for a URL, be it a server or the store embedded in this process."""

from typing import Any, cast

from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from app.kit.client.cluster import PipelinedCluster
from app.kit.client.sentinel import Sentinels
from app.kit.client.standalone import PipelinedRedis
from app.kit.client.url import TLS_FILES, Target, parse_url

CONNECT_TIMEOUT_SECONDS = 1.0
SENTINEL_TIMEOUT_SECONDS = 0.3


def connect(url: str, *, name: str, timeout_seconds: float, max_connections: int = 64) -> Redis:
    """A client that answers in bytes. Nothing is opened before the first command. BadURL says what is wrong in `url`.

    `name` is what CLIENT LIST shows of its connections. A command that gets no answer within `timeout_seconds`, or
    within the budget of the work that it belongs to, raises redis.exceptions.TimeoutError.
    """
    target = parse_url(url)
    if target.kind == "memory":
        # Its connections are objects in this process, so their number needs no bound (redis-py gives it one of 100).
        embedded: Redis = FakeAsyncRedis(server=FakeServer(), client_name=name, max_connections=1 << 31)
        return embedded
    options = _connection_options(target, name) | {"max_connections": max_connections}
    if target.kind == "cluster":
        seeds = target.addresses
        cluster = PipelinedCluster(seeds=seeds, timeout_seconds=timeout_seconds, ssl=target.tls, **options)
        # The two clients have the same typed methods, but no common type that says so.
        return cast(Redis, cluster)
    if target.kind == "sentinel":
        sentinel = _sentinel(target, options)
        # Each connect of the pool asks the sentinels which server is the primary.
        pool: ConnectionPool = SentinelConnectionPool(target.service, sentinel, ssl=target.tls, **options)
        return PipelinedRedis(pool=pool, timeout_seconds=timeout_seconds, sentinels=sentinel.sentinels)
    return PipelinedRedis(pool=_pool(target, options), timeout_seconds=timeout_seconds)


async def pubsub_connection(redis: Redis, key: str) -> AbstractConnection:
    """An unconnected connection beside the client's own, for pub/sub; on a cluster, to the node that has `key`."""
    if isinstance(redis, PipelinedRedis | PipelinedCluster):
        return await redis.pubsub_connection(key)
    embedded: AbstractConnection = redis.connection_pool.make_connection()
    return embedded


def client_stats(redis: Redis) -> dict[str, dict[str, Any]]:
    """State and counters of each server's pipeline, by the server's name; none for the embedded store."""
    return redis.stats() if isinstance(redis, PipelinedRedis | PipelinedCluster) else {}


def _connection_options(target: Target, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "client_name": name,
        "username": target.username,
        "password": target.password,
        # What bounds each wait is around it: a blocking command may wait longer than any other.
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        # Each of these would be a round trip of the handshake.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if target.kind != "unix":
        options |= {"socket_keepalive": True, "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS}
    if target.kind != "cluster":
        options |= {"db": target.database}
    if target.tls:
        options |= {key: value for key, value in target.options.items() if key in TLS_FILES}
        options |= {"ssl_check_hostname": target.options.get("ssl_check_hostname") != "false"}
    return options


def _pool(target: Target, options: dict[str, Any]) -> ConnectionPool:
    if target.kind == "unix":
        return ConnectionPool(connection_class=UnixDomainSocketConnection, path=target.path, **options)
    [(host, port)] = target.addresses
    return ConnectionPool(connection_class=SSLConnection if target.tls else Connection, host=host, port=port, **options)


def _sentinel(target: Target, options: dict[str, Any]) -> Sentinels:
    asking = {key: value for key, value in options.items() if key not in {"db", "username", "password"}}
    asking |= {
        "username": target.options.get("sentinel_username"),
        "password": target.options.get("sentinel_password"),
        # A sentinel that does not answer leaves time for the connect itself.
        "socket_timeout": SENTINEL_TIMEOUT_SECONDS,
        "socket_connect_timeout": SENTINEL_TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "ssl": target.tls,
    }
    return Sentinels(target.addresses, sentinel_kwargs=asking)
