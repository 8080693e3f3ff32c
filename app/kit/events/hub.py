"""The hub: all open event streams of this process."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Iterable

from redis.asyncio import Redis

from app.kit.aio import end_tasks, raise_if_cancelled
from app.kit.client.deadline import start_budget
from app.kit.events.catch_up import CatchUp
from app.kit.events.event import HISTORY_SECONDS, Cursor, validate_topic
from app.kit.events.fanout import Fanout
from app.kit.events.heartbeat import HEARTBEAT_SECONDS, HeartbeatWheel
from app.kit.events.history import History
from app.kit.events.pubsub import CONNECTION_LOST
from app.kit.events.sse import HEARTBEAT, encode_retry
from app.kit.events.stream import MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES, Stream
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry, Telemetry

logger = logging.getLogger(__name__)

MAX_TOPICS = 32
# How long a stream that has just opened waits for Redis.
JOIN_SECONDS = 2.0
LINGER_SECONDS = 10.0
# Of the time to drain, what is left at the end for the last streams to be written out.
LAST_SHARE = 0.2
# Ends of streams that are due within so short a time come together.
STEP_SECONDS = 0.02


class Hub:
    """Streams of server-sent events, at most `max_streams`, over one pub/sub connection.

    A stream's queue is bounded by `max_frames` and `max_bytes`: a client that is too slow is told to fetch afresh
    (`event: resync`), and its stream is closed when it does not even read that. Others are never delayed by it.
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
        """How many are open."""
        return len(self._streams)

    async def start(self) -> None:
        """Begin to connect. Redis may be down: streams get what they ask for when it is back."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._fanout.run()), asyncio.create_task(self._wheel.run())]

    async def drain(self, seconds: float) -> None:
        """End every stream, spread over `seconds` so that not all clients come back at once, and refuse new ones.

        A client that does not read may be open still when this returns.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        streams = list(self._streams)
        for number, stream in enumerate(streams):
            early = began + seconds * (1 - LAST_SHARE) * number / len(streams) - loop.time()
            if early > STEP_SECONDS:
                await asyncio.sleep(early)
            stream.end()
        try:
            async with asyncio.timeout_at(began + seconds):
                while self._streams:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        except TimeoutError:
            logger.warning("%d event streams did not end in time", len(self._streams))

    async def close(self) -> None:
        """End what is left at once, and disconnect."""
        self.draining = True
        for stream in self._streams:
            stream.end()
        tasks, self._tasks = self._tasks, []
        await end_tasks(tasks)

    def subscribe(
        self, topics: Iterable[str], *, last_event_id: str | None = None, until: Collection[str] = ()
    ) -> AsyncGenerator[bytes, None]:
        """One stream of `topics` (channels, or patterns such as `user:*`), as bytes to be written as they come.

        It goes on after `last_event_id`; anything that is no id of ours is a fresh start. It ends by itself after an
        event of a type in `until`, when the client is too slow, and when the hub drains. ValueError for bad topics.
        """
        names = [validate_topic(name) for name in dict.fromkeys(topics)]
        if not 1 <= len(names) <= MAX_TOPICS:
            raise ValueError(f"a stream has between 1 and {MAX_TOPICS} topics")
        return self._stream(names, Cursor.parse(last_event_id), frozenset(until))

    async def _stream(
        self, names: list[str], cursor: Cursor | None, until: frozenset[str]
    ) -> AsyncGenerator[bytes, None]:
        if self.draining or len(self._streams) >= self._max_streams:
            # Never 429 or 503: those stop an EventSource for good, and this one shall come back, here or elsewhere.
            self._telemetry.count("events_streams_refused", reason="drain" if self.draining else "cap")
            yield encode_retry()
            return
        # A stream outlives the deadline of the request that opened it.
        start_budget(None)
        stream = Stream(telemetry=self._telemetry, until=until, max_frames=self._max_frames, max_bytes=self._max_bytes)
        self._enter(stream)
        subscriptions = self._fanout.add(stream, names)
        try:
            # At once, so that the client knows that it is connected; and each has a pause of its own for later.
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
            self._fanout.discard(stream, subscriptions)
            self._leave(stream)

    async def _step(self, catch_up: CatchUp, stream: Stream) -> bytes:
        try:
            return await catch_up.step(wait_seconds=self._join_seconds)
        except CONNECTION_LOST:
            # Fails open: the stream closes, and the client comes back with the id that it has.
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
