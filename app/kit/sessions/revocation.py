"""Revocations: credentials that have ended, told over Redis to every process that may hold something open for them.

The scripts that end a user's session publish its revocation in the same step. SessionStore.revoke() publishes that of
anything else: an API key, a role, an account.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import first_of
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.client.pubsub import Confirmed, PubSubConnection, reconnect_backoff
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry, Telemetry

logger = logging.getLogger(__name__)

_WIRE = re.compile(rb"([0-9]{1,19}) (\*|[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Revocation:
    """A credential of the user `user_id` has ended. `credential` None: all of them, or what they allow has changed.

    `credential` is a session's public id, or the SHA-256 of an API key: app.kit.keys.digest() of what a client sends.
    """

    user_id: int
    credential: str | None = None

    def encode(self) -> str:
        """The message, as the scripts make it too: `7 *`, or the user's id and the credential."""
        return f"{self.user_id} {self.credential or '*'}"

    @classmethod
    def parse(cls, wire: bytes) -> "Revocation | None":
        """None for what encode() did not make."""
        found = _WIRE.fullmatch(wire)
        return cls(int(found[1]), None if found[2] == b"*" else found[2].decode()) if found else None


class RevocationListener(Protocol):
    """What holds something open for credentials, such as event streams. Neither method may block."""

    def revoked(self, revocation: Revocation) -> None:
        """End what was opened with the credential."""

    def may_have_missed(self) -> None:
        """Revocations may have been lost: check every credential again."""


class Revocations:
    """Receives the revocations of all processes: a job for supervised().

    A subscription misses what is published while there is no connection, so each connection begins with
    may_have_missed().
    """

    def __init__(
        self, redis: Redis, keys: Keys, listener: RevocationListener, *, telemetry: Telemetry | None = None
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._listener = listener
        self._telemetry = telemetry or NoTelemetry()
        self._stopping = asyncio.Event()
        self._backoff = reconnect_backoff()
        self._is_lost = False

    async def run(self) -> None:
        """Receive until stop(). Ends by the error of a defect."""
        await first_of(self._receive(), self._stopping.wait())

    def stop(self) -> None:
        self._stopping.set()

    async def _receive(self) -> None:
        while True:
            channel = self._keys.revocations()
            pubsub = PubSubConnection(self._redis, prefix="", near=channel)
            try:
                await pubsub.open()
                await pubsub.subscribe([channel])
                await self._read(pubsub)
            except RedisError as error:
                # Fails open: what is open stays open until the next connection, and is checked then.
                record_failure(error, block="sessions", telemetry=self._telemetry)
                if isinstance(error, UNAVAILABLE) and not self._is_lost:
                    # Once an outage, not at each attempt.
                    self._is_lost = True
                    logger.warning("the revocations' connection to redis ended: %s", type(error).__name__)
            finally:
                await pubsub.close()
            await self._backoff.wait()

    async def _read(self, pubsub: PubSubConnection) -> None:
        while True:
            reply = await pubsub.next()
            self._backoff.reset()
            if isinstance(reply, Confirmed):
                self._is_lost = False
                self._listener.may_have_missed()
            elif revocation := Revocation.parse(reply.wire):
                self._listener.revoked(revocation)
            else:
                logger.warning("a message that is no revocation was skipped")
