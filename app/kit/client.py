"""connect(): one Redis client for a URL, be it a server or the store embedded in this process."""

from urllib.parse import urlsplit

from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import FullJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

# What a caller sees of a Redis that is down or does not answer in time.
Unreachable: tuple[type[RedisError], ...] = (RedisConnectionError, RedisTimeoutError)


def connect(url: str, *, name: str, timeout_seconds: float, max_connections: int = 64) -> Redis:
    """A client that answers in bytes. Nothing is opened before the first command.

    `name` is what CLIENT LIST shows of its connections. A command that gets no answer within `timeout_seconds`
    raises redis.exceptions.TimeoutError; reconnecting is tried once, with full jitter, inside that bound.
    """
    if urlsplit(url).scheme == "memory":
        return FakeAsyncRedis(server=FakeServer(), client_name=name)
    return Redis.from_url(
        url,
        client_name=name,
        max_connections=max_connections,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        socket_keepalive=True,
        retry=Retry(FullJitterBackoff(base=0.01, cap=0.1), retries=1),
    )
