"""One pub/sub connection to Redis, which notices by itself when the other end has gone silent."""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from app.kit.client.connect import pubsub_connection
from app.kit.client.errors import UNAVAILABLE
from app.kit.events.event import is_pattern
from app.kit.keys import Keys

# Silence of this length is answered with a PING, and three times of it are the end of the connection.
PUBSUB_SILENCE_SECONDS = 3.0
NAMES_A_COMMAND = 1000
PUBSUB_BACKOFF_SECONDS = (0.05, 2.0)

# How a connection ends.
CONNECTION_LOST: tuple[type[Exception], ...] = (*UNAVAILABLE, OSError)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Redis has taken up a subscription: what is published from here on will come."""

    topic: str


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes published on `channel`, which belongs to the subscribed `topic`: the channel itself, or a pattern."""

    topic: str
    channel: str
    wire: bytes


class PubSubConnection:
    """Subscribe, unsubscribe, read. It never reconnects: after an error it is closed and another one opened.

    redis-py's PubSub would reconnect and resubscribe in silence, and what was published meanwhile would be missing.
    """

    def __init__(self, redis: Redis, keys: Keys, *, silence_seconds: float = PUBSUB_SILENCE_SECONDS) -> None:
        self._redis = redis
        self._keys = keys
        self._prefix_length = len(keys.event_channel(""))
        self._silence_seconds = silence_seconds
        self._connection: AbstractConnection | None = None
        self._sending = asyncio.Lock()

    async def open(self) -> None:
        # On a cluster to the node that publishes: it has the events' keys.
        self._connection = await pubsub_connection(self._redis, self._keys.event_clock())
        try:
            async with asyncio.timeout(self._silence_seconds):
                await self._connection.connect()
        except TimeoutError as error:
            raise RedisConnectionError("the pub/sub connection cannot be made in time") from error
        except ResponseError as error:
            # What the greeting asked for, such as a database.
            raise RedisConnectionError(str(error)) from error

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for topics; each is Confirmed among what next() gives."""
        await self._send_names("SUBSCRIBE", topics)

    async def unsubscribe(self, topics: Iterable[str]) -> None:
        await self._send_names("UNSUBSCRIBE", topics)

    async def next(self) -> Confirmed | Received:
        """The next of either. Raises redis.exceptions.ConnectionError, also when Redis keeps silent for too long."""
        silences = 0
        while True:
            reply = await self._read()
            if reply is None:
                # Late deadlines of a loop that stalled do no harm: the next read takes what has come meanwhile.
                silences += 1
                if silences == 1:
                    await self._send("PING")
                if silences == 3:
                    raise RedisConnectionError("the pub/sub connection is silent")
                continue
            silences = 0
            if (found := self._parse(reply)) is not None:
                return found

    def _parse(self, reply: Any) -> Confirmed | Received | None:
        """None for what nobody waits for: the answers to PING and UNSUBSCRIBE."""
        match reply:
            case [b"message", channel, wire]:
                name = self._name(channel)
                return Received(name, name, wire)
            case [b"pmessage", pattern, channel, wire]:
                return Received(self._name(pattern), self._name(channel), wire)
            case [b"subscribe" | b"psubscribe", topic, _]:
                return Confirmed(self._name(topic))
        return None

    def _name(self, wire_name: bytes) -> str:
        return wire_name[self._prefix_length :].decode()

    async def _read(self) -> Any:
        """One reply; None when none came within that time."""
        connection = self._connection
        if connection is None:
            raise RedisConnectionError("the pub/sub connection is closed")
        return await connection.read_response(
            timeout=self._silence_seconds, disconnect_on_error=False, push_request=True
        )

    async def _send_names(self, command: str, topics: Iterable[str]) -> None:
        names = list(topics)
        for prefix, chosen in (
            ("", [name for name in names if not is_pattern(name)]),
            ("P", [name for name in names if is_pattern(name)]),
        ):
            for start in range(0, len(chosen), NAMES_A_COMMAND):
                some = chosen[start : start + NAMES_A_COMMAND]
                await self._send(prefix + command, *(self._keys.event_channel(name) for name in some))

    async def _send(self, *command: str) -> None:
        async with self._sending:
            # A connection of redis-py would reconnect here when it is lost.
            if self._connection is None or not self._connection.is_connected:
                raise RedisConnectionError("the pub/sub connection is lost")
            await self._connection.send_command(*command, check_health=False)


async def back_off(failures: int) -> None:
    """Wait before connecting again: longer with each failure in a row, with full jitter."""
    least, most = PUBSUB_BACKOFF_SECONDS
    await asyncio.sleep(random.uniform(0, min(most, least * 2 ** min(failures, 10))))  # noqa: S311  jitter, no secret
