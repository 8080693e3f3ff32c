"""The hub: all open event streams of this process."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import end_tasks, raise_if_cancelled
from app.kit.client.deadline import start_budget
from app.kit.client.errors import record_failure
from app.kit.events.catch_up import CatchUp
from app.kit.events.event import HISTORY_SECONDS, Cursor, Message, validate_topic
from app.kit.events.fanout import Fanout
from app.kit.events.heartbeat import HEARTBEAT_SECONDS, HeartbeatWheel
from app.kit.events.history import History
from app.kit.events.sse import HEARTBEAT, encode_retry
from app.kit.events.stream import MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES, Stream
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry, Telemetry

logger = logging.getLogger(__name__)

MAX_TOPICS = 32
# How long a stream that was just opened waits for Redis.
JOIN_SECONDS = 2.0
LINGER_SECONDS = 10.0
# The share of the time to drain that is left at its end for writing the last streams.
LAST_SHARE = 0.2
# Streams that are to end within so short a time end together.
STEP_SECONDS = 0.02


class Hub:
    """Streams of server-sent events, at most `max_streams`, over one pub/sub connection.

    A stream's queue is bounded by `max_frames` and `max_bytes`. When the queue of a slow consumer is full, it is
    replaced by `event: resync`, and when it is full again unread, the stream is closed. It never delays other streams.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        max_streams: int = 10_000,
        max_frames: int = MAX_QUEUED_FRAMES,
        max_bytes: int = MAX_QUEUED_BYTES,
        history_seconds: int = HISTORY_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        linger_seconds: float = LINGER_SECONDS,
        join_seconds: float = JOIN_SECONDS,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or NoTelemetry()
        self._history = History(redis, keys, history_seconds=history_seconds)
        self._fanout = Fanout(redis, keys, self._history, telemetry=self._telemetry, linger_seconds=linger_seconds)
        self._wheel = HeartbeatWheel(turn_seconds=heartbeat_seconds)
        self._max_streams = max_streams
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._join_seconds = join_seconds
        self._streams: set[Stream] = set()
        self._all_gone = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    async def start(self) -> None:
        """Begin to connect, and return. Redis may be down."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._fanout.run()), asyncio.create_task(self._wheel.run())]

    async def drain(self, seconds: float) -> None:
        """Refuse new streams and end all others, spread over `seconds` so that their clients do not return at once.

        The stream of a client that does not read may still be open when this returns.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        streams = list(self._streams)
        for number, stream in enumerate(streams):
            ahead = began + seconds * (1 - LAST_SHARE) * number / len(streams) - loop.time()
            if ahead > STEP_SECONDS:
                await asyncio.sleep(ahead)
            stream.end()
        try:
            async with asyncio.timeout_at(began + seconds):
                while self._streams:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        except TimeoutError:
            logger.warning("%d event streams did not end in time", len(self._streams))

    async def close(self) -> None:
        """End all streams at once, and disconnect."""
        self.draining = True
        for stream in self._streams:
            stream.end()
        tasks, self._tasks = self._tasks, []
        await end_tasks(tasks)

    async def cursor_at(self, seconds: float) -> Cursor:
        """The cursor of a moment that has passed, in epoch seconds by Redis' clock. Raises UNAVAILABLE."""
        now = (await self._history.read({})).end
        return min(now, Cursor(now.epoch, (int(seconds * 1000), 0)))

    async def replay(self, channel: str, after: Cursor) -> tuple[list[Message], Cursor]:
        """The events of a channel after a cursor, as far as its history has them, and the present cursor.

        Raises UNAVAILABLE.
        """
        messages: list[Message] = []
        page = await self._history.read({channel: after})
        messages += page.messages
        while page.rest:
            page = await self._history.read(page.rest, end=page.end)
            messages += page.messages
        return messages, page.end

    def subscribe(
        self,
        topics: Iterable[str],
        *,
        last_event_id: str | None = None,
        until: Collection[str] = (),
        seconds: float | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """A stream of the events of `topics`, as bytes to be written as they come.

        It resumes after `last_event_id`; without one, or with any other text, it starts with the next event. It ends
        after an event of a type in `until`, after `seconds`, when the client is too slow, when Redis does not answer
        the replay, and when the hub drains. ValueError for bad topics.
        """
        unique = [validate_topic(topic) for topic in dict.fromkeys(topics)]
        if not 1 <= len(unique) <= MAX_TOPICS:
            raise ValueError(f"a stream has between 1 and {MAX_TOPICS} topics")
        return self._stream(unique, Cursor.parse(last_event_id), frozenset(until), seconds)

    async def _stream(
        self, topics: list[str], cursor: Cursor | None, until: frozenset[str], seconds: float | None
    ) -> AsyncGenerator[bytes, None]:
        if self.draining or len(self._streams) >= self._max_streams:
            # Never 429 or 503: they stop an EventSource for good, and this client is to reconnect, here or elsewhere.
            self._telemetry.count("events_streams_refused", reason="drain" if self.draining else "cap")
            yield encode_retry()
            return
        # A stream outlives the deadline of the request that opened it.
        start_budget(None)
        stream = Stream(telemetry=self._telemetry, until=until, max_frames=self._max_frames, max_bytes=self._max_bytes)
        self._enter(stream)
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, stream.end)
        subscriptions = self._fanout.add(stream, topics)
        try:
            # At once, so that the client sees that it is connected; `retry:` differs from client to client.
            yield HEARTBEAT + encode_retry()
            catch_up = CatchUp(
                stream, subscriptions, cursor, fanout=self._fanout, history=self._history, telemetry=self._telemetry
            )
            while stream.cursor is None and not stream.ended:
                data = await self._step(catch_up, stream)
                raise_if_cancelled()
                if data:
                    yield data
            while data := await stream.take():
                yield data
        finally:
            if timer is not None:
                timer.cancel()
            self._fanout.discard(stream, subscriptions)
            self._leave(stream)

    async def _step(self, catch_up: CatchUp, stream: Stream) -> bytes:
        try:
            return await catch_up.step(wait_seconds=self._join_seconds)
        except (TimeoutError, RedisError) as error:
            # Fails open: the stream closes, and the client reconnects with its last id.
            if isinstance(error, RedisError):
                record_failure(error, block="events", telemetry=self._telemetry)
            self._telemetry.count("events_streams_closed", reason="redis")
            stream.end()
            return b""

    def _enter(self, stream: Stream) -> None:
        self._streams.add(stream)
        self._wheel.add(stream)
        self._telemetry.gauge("events_streams", len(self._streams))

    def _leave(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self._wheel.discard(stream)
        self._telemetry.gauge("events_streams", len(self._streams))
        if not self._streams:
            self._all_gone.set()
