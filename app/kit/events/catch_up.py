"""How a stream starts without a gap: subscribed first, then the history, then what came in between."""

import asyncio
from collections.abc import Sequence

from app.kit.events.event import Cursor, is_pattern
from app.kit.events.fanout import Fanout
from app.kit.events.history import History, Page
from app.kit.events.sse import encode_message, encode_position, encode_resync
from app.kit.events.stream import Stream
from app.kit.events.subscription import Subscription
from app.kit.telemetry import Telemetry


class CatchUp:
    """Brings one client, whose topics are subscribed already, from its cursor to live, step by step.

    The history is one view of all channels at one instant. What the client was offered meanwhile continues it.
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
        self._channels = [subscription.name for subscription in subscriptions if not is_pattern(subscription.name)]
        self._rest = dict.fromkeys(self._channels, cursor) if cursor else {}
        # A pattern has no history.
        self._lost = cursor is not None and len(self._channels) < len(subscriptions)
        self._upto: Cursor | None = None
        self._generation = -1

    async def step(self, *, wait_seconds: float) -> bytes:
        """The next bytes to write; it was the last step when the client has a cursor, or has ended.

        Raises TimeoutError when Redis does not confirm the topics in time, and UNAVAILABLE.
        """
        async with asyncio.timeout(wait_seconds):
            generation = await self._fanout.ready(self._subscriptions)
        if generation != self._generation:
            # What the connection before had promised is void: the view begins anew, from where we are.
            self._generation, self._upto = generation, None
        page = await self._history.read(self._rest, upto=self._upto)
        self._rest, self._upto = page.rest, page.upto
        data = self._write(page)
        if not self._rest and not self._stream.ended:
            data += self._finish(page.upto)
        return data

    def _write(self, page: Page) -> bytes:
        if self._lost or page.unreachable:
            self._lost, self._rest = False, {}
            self._telemetry.count("events_resyncs", reason="history")
            return encode_resync(page.upto, reason="history")
        frames = []
        for message in page.messages:
            frames.append(encode_message(message).data)
            if message.type in self._stream.until:
                self._stream.end()
                break
        return b"".join(frames)

    def _finish(self, upto: Cursor) -> bytes:
        """Go live, unless the connection was lost meanwhile: then the next step reads on from here."""
        if self._fanout.generation == self._generation:
            self._stream.go_live(upto)
            for subscription in self._subscriptions:
                subscription.begin_at(upto)
        else:
            self._rest = dict.fromkeys(self._channels, upto)
        return encode_position(upto)
