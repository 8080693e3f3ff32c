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
from app.kit.events.grant import Grant
from app.kit.events.heartbeat import HEARTBEAT_SECONDS, HeartbeatWheel
from app.kit.events.history import History
from app.kit.events.open_streams import OpenStreams
from app.kit.events.presence import Presence
from app.kit.events.sse import HEARTBEAT, encode_retry
from app.kit.events.stream import MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES, Stream
from app.kit.events.waker import Waker
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry, Telemetry

logger = logging.getLogger(__name__)

MAX_TOPICS = 32
# How long a stream that was just opened waits for Redis.
JOIN_SECONDS = 2.0
LINGER_SECONDS = 10.0
# Then a stream ends, so that streams spread over new nodes and credentials are checked again.
MAX_AGE_SECONDS = 60 * 60.0
# The share of the time to drain that is left at its end for writing the last streams.
LAST_SHARE = 0.2
# Streams that are to end within so short a time end together.
STEP_SECONDS = 0.02


class Hub:
    """Streams of server-sent events over one pub/sub connection.

    There are at most `max_streams`, and of one user or one network `max_streams_per_user` or `_per_network`. After
    about `max_age_seconds` a stream ends, and its client opens another, perhaps on another node.
    A stream's queue is bounded by `max_frames` and `max_bytes`. When the queue of a slow consumer is full, it is
    replaced by `event: resync`, and when it is full again unread, the stream is closed. It never delays other streams.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        presence: Presence | None = None,
        max_streams: int = 10_000,
        max_streams_per_user: int = 100,
        max_streams_per_network: int = 10_000,
        max_age_seconds: float = MAX_AGE_SECONDS,
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
        self._waker = Waker()
        self._fanout = Fanout(
            redis, keys, self._history, self._waker, telemetry=self._telemetry, linger_seconds=linger_seconds
        )
        self._wheel = HeartbeatWheel(turn_seconds=heartbeat_seconds, telemetry=self._telemetry)
        self._open = OpenStreams(
            wheel=self._wheel,
            presence=presence,
            max_streams=max_streams,
            max_per_user=max_streams_per_user,
            max_per_network=max_streams_per_network,
            max_age_seconds=max_age_seconds,
            telemetry=self._telemetry,
        )
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._join_seconds = join_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._open)

    async def start(self) -> None:
        """Begin to connect, and return. Redis may be down."""
        if not self._tasks:
            runs = (self._fanout.run(), self._wheel.run(), self._open.run(), self._open.report())
            self._tasks = [asyncio.create_task(run) for run in runs]

    async def drain(self, seconds: float) -> None:
        """Refuse new streams and end all others, spread over `seconds` so that their clients do not return at once.

        The stream of a client that does not read may still be open when this returns.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        streams = self._open.snapshot()
        for number, stream in enumerate(streams):
            ahead = began + seconds * (1 - LAST_SHARE) * number / len(streams) - loop.time()
            if ahead > STEP_SECONDS:
                await asyncio.sleep(ahead)
            stream.end()
        try:
            async with asyncio.timeout_at(began + seconds):
                await self._open.all_gone()
        except TimeoutError:
            logger.warning("%d event streams did not end in time", len(self._open))

    async def close(self) -> None:
        """End all streams at once, and disconnect."""
        self.draining = True
        for stream in self._open.snapshot():
            stream.end()
        tasks, self._tasks = self._tasks, []
        await end_tasks(tasks)

    def revoke(self, user_id: int, credential: str | None = None) -> None:
        """End the user's streams: those that were opened with the credential, or all."""
        self._open.revoke(user_id, credential)

    def check_grants(self) -> None:
        """Calls of revoke() may be missing: check the grants of all streams, and end those that do not hold."""
        self._open.check_all()

    async def cursor(self) -> Cursor:
        """The present cursor: a stream with it as `last_event_id` gets what is published from now on.

        Raises UNAVAILABLE.
        """
        return (await self._history.read({})).end

    async def cursor_at(self, seconds: float) -> Cursor:
        """The cursor of a moment that has passed, in epoch seconds by Redis' clock. Raises UNAVAILABLE."""
        now = await self.cursor()
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
        grant: Grant | None = None,
        seconds: float | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """A stream of the events of `topics`, as bytes to be written as they come.

        It resumes after `last_event_id`; without one, or with any other text, it starts with the next event. It ends
        after an event of a type in `until`, after `seconds`, when the client is too slow, when Redis does not answer
        the replay, when its `grant` ends (without one it is a visitor's), and when the hub drains. ValueError for bad
        topics.
        """
        unique = [validate_topic(topic) for topic in dict.fromkeys(topics)]
        if not 1 <= len(unique) <= MAX_TOPICS:
            raise ValueError(f"a stream has between 1 and {MAX_TOPICS} topics")
        stream = Stream(
            telemetry=self._telemetry,
            totals=self._open.totals,
            waker=self._waker,
            grant=grant or Grant(),
            until=frozenset(until),
            max_frames=self._max_frames,
            max_bytes=self._max_bytes,
        )
        return self._write(stream, unique, Cursor.parse(last_event_id), seconds)

    async def _write(
        self, stream: Stream, topics: list[str], cursor: Cursor | None, seconds: float | None
    ) -> AsyncGenerator[bytes, None]:
        if refusal := "drain" if self.draining else self._open.refusal(stream):
            # Never 429 or 503: they stop an EventSource for good, and this client is to reconnect, here or elsewhere.
            self._telemetry.count("events_streams_refused", reason=refusal)
            yield encode_retry()
            return
        # A stream outlives the deadline of the request that opened it.
        start_budget(None)
        stream.writer = asyncio.current_task()
        self._open.add(stream)
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
                if data and not stream.revoked:
                    yield data
                    stream.note_progress()
            # A stream lasts for hours after its replay.
            del catch_up
            while data := await stream.take():
                yield data
        finally:
            if timer is not None:
                timer.cancel()
            self._fanout.discard(stream, subscriptions)
            self._open.discard(stream)

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
