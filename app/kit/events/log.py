"""Reads the log: the channels of all events in their order, which is the clock that gives the ids.

A subscriber reads it after a position of its own; a group of them claims its entries, each for one process.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.kit.events.event import Event
from app.kit.keys import Keys
from app.kit.scripts import Argument, run_script

PAGE = 100

_decode_event = msgspec.json.Decoder(Event).decode


@dataclass(frozen=True, slots=True)
class LogEntry:
    """`channel` is "" for a tick of the clock. `claims`: how often the group has claimed it."""

    id: str
    channel: str
    claims: int = 1


class EventLog:
    """Each call raises UNAVAILABLE."""

    def __init__(self, redis: Redis, keys: Keys, *, group: str, lease_seconds: float) -> None:
        self._redis = redis
        self._keys = keys
        self._log = keys.event_clock()
        self._group = group
        self._lease_ms = int(lease_seconds * 1000)

    async def last_id(self) -> str:
        entries: Any = await self._redis.xrevrange(self._log, count=1)
        return entries[0][0].decode() if entries else "0-0"

    async def read(self, after: str, *, wait_seconds: float) -> Sequence[LogEntry]:
        """The entries after an id, at most PAGE; waits for the first one, and is empty when none comes."""
        reply: Any = await self._redis.xread({self._log: after}, count=PAGE, block=max(1, int(wait_seconds * 1000)))
        entries = [] if not reply else next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
        return [LogEntry(entry_id.decode(), fields.get(b"channel", b"").decode()) for entry_id, fields in entries]

    async def create_group(self, *, after: str) -> None:
        """The group claims what follows the id, unless it exists."""
        try:
            await self._redis.xgroup_create(self._log, self._group, id=after, mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def claim(self, most: int, *, handled: Collection[str]) -> Sequence[LogEntry]:
        """Claim entries for the lease, and renew the lease of those that are being `handled`."""
        args: list[Argument] = [self._group, most, self._lease_ms, *handled]
        try:
            reply: Any = await run_script(self._redis, "events/claim", keys=[self._log], args=args)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            # Redis has lost its data: whatever the log has is new.
            await self.create_group(after="0-0")
            return await self.claim(most, handled=())
        return [LogEntry(entry_id.decode(), channel.decode(), claims) for entry_id, channel, claims in reply]

    async def acknowledge(self, entry_id: str) -> None:
        await self._redis.xack(self._log, self._group, entry_id)

    async def fetch(self, entry: LogEntry) -> Event | None:
        """The event of an entry; None when its channel's history has lost it, and for what no Publisher wrote."""
        found: Any = await self._redis.xrange(self._keys.event_stream(entry.channel), entry.id, entry.id)
        epoch: Any = await self._redis.get(self._keys.event_epoch())
        try:
            event = _decode_event(found[0][1][b"payload"])
        except (LookupError, msgspec.DecodeError):
            return None
        return msgspec.structs.replace(event, id=f"{(epoch or b'').decode()}-{entry.id}")
