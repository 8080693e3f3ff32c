"""Publishes events: one script gives the event its id, appends it to the history and sends it by PUBLISH."""

import secrets
from typing import Any

from redis.asyncio import Redis

from app.kit.events.event import BROADCAST, HISTORY_SECONDS, LOG_LENGTH, encode_event, user_channel
from app.kit.keys import Keys, digest
from app.kit.scripts import run_script
from app.kit.telemetry import NoTelemetry, Telemetry
from app.kit.tracing import Tracing

# An id of the caller is repeated when the outbox crashes; one that is made here, only when the reply of Redis is lost.
CALLERS_ID_SECONDS = 60 * 60
OWN_ID_SECONDS = 60


class Publisher:
    """Publishes on channels.

    A channel's history holds its last `history_length` events and expires `history_seconds` after the last one.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        history_length: int = 1000,
        history_seconds: int = HISTORY_SECONDS,
        telemetry: Telemetry | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._history_length = history_length
        self._history_ms = history_seconds * 1000
        self._telemetry = telemetry or NoTelemetry()
        self._tracing = tracing

    async def publish(self, channel: str, type: str, data: Any, *, event_id: str | None = None) -> str:
        """Encode an event and publish it; returns its id. Raises what encode_event() and publish_encoded() raise."""
        traceparent = self._tracing.traceparent() if self._tracing else None
        payload = encode_event(channel, type, data, traceparent=traceparent)
        return await self.publish_encoded(channel, payload, event_id=event_id)

    async def publish_to_user(self, user_id: int, type: str, data: Any, *, event_id: str | None = None) -> str:
        """publish() on the user's own channel."""
        return await self.publish(user_channel(user_id), type, data, event_id=event_id)

    async def publish_broadcast(self, type: str, data: Any, *, event_id: str | None = None) -> str:
        """publish() on the channel that everyone may subscribe to."""
        return await self.publish(BROADCAST, type, data, event_id=event_id)

    async def publish_encoded(self, channel: str, payload: bytes, *, event_id: str | None = None) -> str:
        """Publish what encode_event() returned for the channel; returns the event's id.

        A second call with the same `event_id` within an hour publishes nothing and returns the first one's id. Fails
        closed: raises app.kit.client.errors.UNAVAILABLE, after which the caller (the outbox) repeats the call with
        the same `event_id`.
        """
        seen_seconds = CALLERS_ID_SECONDS if event_id else OWN_ID_SECONDS
        keys = self._keys
        published: bytes = await run_script(
            self._redis,
            "events/publish",
            keys=[
                keys.event_seen(digest(event_id or secrets.token_hex(16))),
                keys.event_epoch(),
                keys.event_clock(),
                keys.event_stream(channel),
                keys.event_last(channel),
            ],
            args=[
                secrets.token_hex(6),
                keys.event_channel(channel),
                payload,
                self._history_length,
                self._history_ms,
                seen_seconds * 1000,
                channel,
                LOG_LENGTH,
            ],
            repeatable=True,
        )
        self._telemetry.count("events_published")
        return published.decode()
