"""Starts a stream without a gap: subscribe first, then replay the history, then go on with the live events."""

import asyncio
from collections.abc import Sequence

from app.kit.events.event import Cursor, is_pattern
from app.kit.events.fanout import Fanout
from app.kit.events.history import History, Page
from app.kit.events.sse import encode_live, encode_message, encode_position, encode_resync
from app.kit.events.stream import WRITE_BYTES, Stream
from app.kit.events.subscription import Subscription
from app.kit.telemetry import Telemetry


class CatchUp:
    """Replays the history to one stream, from its cursor to the live events, step by step.

    `subscriptions` are the stream's, added before. The history is a view of all channels at one instant; the live
    events that the stream was offered during the replay continue it.
    """

    def __init__(
        self,
        stream: Stream,
        subscriptions: Sequence[Subscription],
        cursor: Cursor | None,
        *,
        fanout: Fanout,
        history: History,
        telemetry: Telemetry,
    ) -> None:
        self._stream = stream
        self._subscriptions = subscriptions
        self._fanout = fanout
        self._history = history
        self._telemetry = telemetry
        self._channels = [subscription.topic for subscription in subscriptions if not is_pattern(subscription.topic)]
        self._rest = dict.fromkeys(self._channels, cursor) if cursor else {}
        # A pattern has no history.
        self._lost = cursor is not None and len(self._channels) < len(subscriptions)
        self._end: Cursor | None = None
        self._generation = -1

    async def step(self, *, wait_seconds: float) -> bytes:
        """Return the next bytes to write; after the last step the stream has a cursor or has ended.

        Raises TimeoutError when Redis does not confirm the subscriptions in time, and what History.read() raises.
        """
        async with asyncio.timeout(wait_seconds):
            generation = await self._fanout.ready(self._subscriptions)
        if generation != self._generation:
            # The confirmations of the lost connection are void: a new view begins, after what is replayed already.
            self._generation, self._end = generation, None
        # A page is in memory for as long as its client takes to read it.
        page = await self._history.read(self._rest, end=self._end, page_bytes=WRITE_BYTES)
        self._rest, self._end = page.rest, page.end
        data = self._encode(page)
        if not self._rest and not self._stream.ended:
            data += self._finish(page.end)
        return data

    def _encode(self, page: Page) -> bytes:
        if self._lost or page.unreachable:
            self._lost, self._rest = False, {}
            self._telemetry.count("events_resyncs", reason="history")
            return encode_resync(page.end, reason="history")
        frames = []
        for message in page.messages:
            frames.append(encode_message(message).data)
            if message.type in self._stream.until:
                self._stream.end()
                break
        self._telemetry.count("events_replayed", len(frames))
        return b"".join(frames)

    def _finish(self, end: Cursor) -> bytes:
        """End the replay, unless the connection was lost during it: then the next step reads on from here."""
        if self._fanout.generation == self._generation:
            self._stream.finish_replay(end)
            for subscription in self._subscriptions:
                subscription.note_replayed(end)
            return encode_live(end)
        self._rest = dict.fromkeys(self._channels, end)
        return encode_position(end)
