"""Reads the history of channels in pages; a page is one view of all its channels, in the order of the ids."""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from app.kit.client.deadline import budget
from app.kit.events.event import HISTORY_SECONDS, LOG_LENGTH, Cursor, Message, parse_position
from app.kit.keys import Keys
from app.kit.scripts import run_script

# Of one channel.
PAGE_ENTRIES = 100
PAGE_BYTES = 1024 * 1024
CHANNELS_A_READ = 200
# A read after so long without an event advances the clock, so that the cursor of a new stream is never older.
CLOCK_TICK_SECONDS = 60
# The replies share a connection with all other commands, so few of them may occupy it at a time.
CONCURRENT_READS = 8
READ_SECONDS = 2.0


@dataclass(slots=True)
class Page:
    """The events of some channels up to the cursor `end` or, where `rest` has the cursors of a next page, up to those.

    The history of the channels in `unreachable` no longer reaches back to their cursors; `messages` has none of them.
    """

    end: Cursor
    messages: list[Message] = field(default_factory=list)
    unreachable: set[str] = field(default_factory=set)
    rest: dict[str, Cursor] = field(default_factory=dict)


class History:
    """Reads the histories that Publisher writes; `history_seconds` is the publisher's."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        history_seconds: int = HISTORY_SECONDS,
        page_entries: int = PAGE_ENTRIES,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._history_ms = history_seconds * 1000
        self._page_entries = page_entries
        self._turns = asyncio.Semaphore(CONCURRENT_READS)
        self._next_present: asyncio.Task[Cursor] | None = None

    async def read(
        self, after: Mapping[str, Cursor], *, end: Cursor | None = None, page_bytes: int = PAGE_BYTES
    ) -> Page:
        """Read the events of each channel after its cursor; without channels, the present cursor. Raises UNAVAILABLE.

        To read on, pass the page's `rest` and `end`: then all pages together are one view. A page has about
        `page_bytes`, or one event of each channel.
        """
        if not after and end is None:
            return Page(await self._present())
        channels = list(after)
        page = await self._read_some(channels[:CHANNELS_A_READ], after, end, page_bytes)
        for start in range(CHANNELS_A_READ, len(channels), CHANNELS_A_READ):
            more = await self._read_some(channels[start : start + CHANNELS_A_READ], after, page.end, page_bytes)
            page.messages += more.messages
            page.unreachable |= more.unreachable
            page.rest |= more.rest
        page.messages.sort(key=lambda message: message.cursor.position)
        if page.rest:
            self._cut(page, after)
        return page

    def _cut(self, page: Page, after: Mapping[str, Cursor]) -> None:
        """Cut the page where the first channel with a rest ends: beyond it the order of all channels is unknown."""
        bound = min(page.rest.values())
        page.messages = [message for message in page.messages if message.cursor <= bound]
        page.rest = {
            channel: max(cursor, bound) for channel, cursor in after.items() if channel not in page.unreachable
        }

    async def _read_some(
        self, channels: list[str], after: Mapping[str, Cursor], end: Cursor | None, page_bytes: int
    ) -> Page:
        epoch, clock, now_seconds, *parts = await self._run(channels, after, page_bytes)
        now = Cursor(epoch.decode(), parse_position(clock))
        page = Page(end or now)
        for channel, (last, entries, has_more) in zip(channels, parts, strict=True):
            messages = _parse(channel, now.epoch, entries)
            # When the event before the first one here is newer than the cursor, events between them are lost.
            previous = messages[0].previous if messages else parse_position(last)
            reaches = self._reaches(after[channel], now, now_ms=int(now_seconds) * 1000)
            if not reaches or previous > after[channel].position:
                page.unreachable.add(channel)
                continue
            page.messages += [message for message in messages if message.cursor <= page.end]
            read = Cursor(now.epoch, parse_position(entries[-1][0])) if has_more else page.end
            if read < page.end:
                page.rest[channel] = read
        return page

    async def _present(self) -> Cursor:
        """The present cursor. Calls that come together share one read, such as those of clients that all return."""
        if self._next_present is None:
            self._next_present = asyncio.create_task(self._read_present())
            # When all calls were cancelled, no other code retrieves its error.
            self._next_present.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next_present)

    async def _read_present(self) -> Cursor:
        await asyncio.sleep(0)
        # A call that comes after this must not get a cursor of before it.
        self._next_present = None
        return (await self._read_some([], {}, None, 0)).end

    def _reaches(self, cursor: Cursor, now: Cursor, *, now_ms: int) -> bool:
        """False for a cursor of another epoch, of the future (a failover lost events), or older than any history."""
        if cursor.epoch != now.epoch or cursor.position > now.position:
            return False
        return cursor.position[0] >= now_ms - self._history_ms

    async def _run(self, channels: list[str], after: Mapping[str, Cursor], page_bytes: int) -> list[Any]:
        keys = self._keys
        async with self._turns:
            # Not the request's budget: a replay may take longer than a response.
            with budget(READ_SECONDS):
                reply: list[Any] = await run_script(
                    self._redis,
                    "events/history",
                    keys=[
                        keys.event_epoch(),
                        keys.event_clock(),
                        *(key for name in channels for key in (keys.event_stream(name), keys.event_last(name))),
                    ],
                    args=[
                        secrets.token_hex(6),
                        CLOCK_TICK_SECONDS,
                        self._page_entries,
                        page_bytes,
                        LOG_LENGTH,
                        *(after[name].stream_id for name in channels),
                    ],
                    repeatable=True,
                )
        return reply


def _parse(channel: str, epoch: str, entries: list[tuple[bytes, list[bytes]]]) -> list[Message]:
    """Skips entries that events/lua/publish.lua did not write."""
    messages = []
    for stream_id, fields in entries:
        with suppress(ValueError):
            _, previous, _, payload = fields
            message = Message.parse(channel, epoch=epoch, stream_id=stream_id, previous=previous, payload=payload)
            messages.append(message)
    return messages
