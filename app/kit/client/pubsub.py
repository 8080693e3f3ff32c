"""One pub/sub connection to Redis, which detects by PING that the server has fallen silent."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from app.kit.aio import Backoff
from app.kit.client.connect import pubsub_connection
from app.kit.client.errors import refusal

# After so much silence a PING is sent; after three times as much the connection counts as lost.
PUBSUB_SILENCE_SECONDS = 1.5
# Longer than a retransmission of TCP's first packet (RFC 6298: 1 s).
PUBSUB_CONNECT_SECONDS = 3.0
NAMES_A_COMMAND = 1000


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Redis has confirmed a subscription: events that are published from now on will be received."""

    topic: str


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes published on `channel`. `topic` is the subscription that they match: the channel itself, or a pattern."""

    topic: str
    channel: str
    wire: bytes


def reconnect_backoff() -> Backoff:
    """The delays between a lost connection and the next one."""
    return Backoff(first_seconds=0.1, longest_seconds=2.0)


class PubSubConnection:
    """Subscribes, unsubscribes and reads. It never reconnects: after an error it must be closed and another opened.

    redis-py's PubSub reconnects and resubscribes without notice, so that the events in between would be missed.
    """

    def __init__(
        self, redis: Redis, *, prefix: str, near: str, silence_seconds: float = PUBSUB_SILENCE_SECONDS
    ) -> None:
        """`prefix` stands before each topic in Redis. On a cluster it connects to the node that has the key `near`."""
        self._redis = redis
        self._prefix = prefix
        self._near = near
        self._silence_seconds = silence_seconds
        self._connection: AbstractConnection | None = None
        self._sending = asyncio.Lock()

    async def open(self) -> None:
        """Connect. Raises UNAVAILABLE, or another RedisError when the server refuses the handshake."""
        self._connection = await pubsub_connection(self._redis, self._near)
        try:
            async with asyncio.timeout(PUBSUB_CONNECT_SECONDS):
                await self._connection.connect()
        except TimeoutError as error:
            raise RedisConnectionError("the pub/sub connection cannot be made in time") from error
        except ResponseError as error:
            raise refusal(error) from None

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Send the subscriptions; next() returns a Confirmed for each topic."""
        await self._send_names("SUBSCRIBE", topics)

    async def unsubscribe(self, topics: Iterable[str]) -> None:
        await self._send_names("UNSUBSCRIBE", topics)

    async def next(self) -> Confirmed | Received:
        """Wait for the next confirmation or message.

        Raises UNAVAILABLE, also when Redis is silent for too long, and another RedisError when it refuses a command.
        """
        silences = 0
        while True:
            reply = await self._read()
            if reply is None:
                # A timeout that is late because the loop stalled does no harm: the next read finds what has arrived.
                silences += 1
                if silences == 1:
                    await self._send("PING")
                if silences == 3:
                    raise RedisConnectionError("the pub/sub connection is silent")
                continue
            silences = 0
            if (parsed := self._parse(reply)) is not None:
                return parsed

    def _parse(self, reply: Any) -> Confirmed | Received | None:
        """None for the replies to PING and UNSUBSCRIBE."""
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
        return wire_name[len(self._prefix) :].decode()

    async def _read(self) -> Any:
        """One reply; None after `silence_seconds` without one."""
        connection = self._connection
        if connection is None:
            raise RedisConnectionError("the pub/sub connection is closed")
        try:
            return await connection.read_response(
                timeout=self._silence_seconds, disconnect_on_error=False, push_request=True
            )
        except ResponseError as error:
            raise refusal(error) from None

    async def _send_names(self, command: str, topics: Iterable[str]) -> None:
        names = list(topics)
        for kind, chosen in (
            ("", [name for name in names if "*" not in name]),
            ("P", [name for name in names if "*" in name]),
        ):
            for start in range(0, len(chosen), NAMES_A_COMMAND):
                some = chosen[start : start + NAMES_A_COMMAND]
                await self._send(kind + command, *(self._prefix + name for name in some))

    async def _send(self, *command: str) -> None:
        async with self._sending:
            # When the connection is lost, redis-py's send_command would reconnect.
            if self._connection is None or not self._connection.is_connected:
                raise RedisConnectionError("the pub/sub connection is lost")
            await self._connection.send_command(*command, check_health=False)
