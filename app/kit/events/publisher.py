"""Publishes events: one script gives the id, keeps the history and tells who listens."""

import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis.asyncio import Redis

from app.kit.events.event import HISTORY_SECONDS, Event, validate_channel, validate_type
from app.kit.keys import Keys, digest
from app.kit.scripts import run_script
from app.kit.telemetry import NoTelemetry, Telemetry

MAX_PAYLOAD_BYTES = 64 * 1024
# A caller's own event id may come again after a crash of the outbox; an id made here only when Redis' answer was lost.
CALLERS_ID_SECONDS = 60 * 60
OWN_ID_SECONDS = 60


class Publisher:
    """Publishes on channels. A channel keeps its last `history_length` events, `history_seconds` after the last one."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        history_length: int = 1000,
        history_seconds: int = HISTORY_SECONDS,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._history_length = history_length
        self._history_ms = history_seconds * 1000
        self._telemetry = telemetry or NoTelemetry()

    async def publish(self, channel: str, type: str, data: Any, *, event_id: str | None = None) -> str:
        """Publish `data` (what JSON can hold) and return the id. An `event_id` seen within the hour changes nothing.

        ValueError for a channel, a type or a size that is not allowed. Fails closed: a Redis that is down raises
        app.kit.client.errors.UNAVAILABLE, and it is the caller (the outbox) who tries again, with the same `event_id`.
        """
        payload = _encode(Event(validate_type(type), data, datetime.now(UTC), validate_channel(channel)))
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
            ],
            repeatable=True,
        )
        self._telemetry.count("events_published")
        return published.decode()


def _encode(event: Event) -> bytes:
    payload = msgspec.json.encode(event)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"an event of {len(payload)} bytes; {MAX_PAYLOAD_BYTES} are allowed")
    return payload
