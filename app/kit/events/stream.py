"""One open stream: the queue of what is to be written to it, bounded in frames and in bytes."""

import asyncio
import math
from collections.abc import Collection
from dataclasses import dataclass

from app.kit.aio import Flag
from app.kit.events.event import Cursor
from app.kit.events.grant import Grant
from app.kit.events.sse import HEARTBEAT, Frame, encode_resync, encode_retry
from app.kit.events.waker import Waker
from app.kit.telemetry import Telemetry

MAX_QUEUED_FRAMES = 1000
MAX_QUEUED_BYTES = 1024 * 1024
# What waits is joined into writes of about this size, so that a client that reads slowly shows progress.
WRITE_BYTES = 64 * 1024


@dataclass(slots=True)
class WriteTotals:
    """What all streams of a process have written, in writes and in those of several frames, and what is queued."""

    writes: int = 0
    joined_writes: int = 0
    queued_bytes: int = 0


class Stream:
    """The queue between the fan-out, which never waits for it, and the writer of one stream.

    While `cursor` is None the history is being replayed, and frames are held back until finish_replay(). Afterwards
    `cursor` is that of the newest frame that was taken; older ones are dropped, so that no event is written twice. The
    stream ends after a frame of a type in `until`.
    """

    __slots__ = (
        "cursor",
        "ended",
        "revoked",
        "until",
        "grant",
        "ends_at",
        "writer",
        "_telemetry",
        "_totals",
        "_waker",
        "_max_frames",
        "_max_bytes",
        "_held",
        "_queue",
        "_bytes",
        "_resync_queued",
        "_wake",
        "_stalled",
    )

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        totals: WriteTotals,
        waker: Waker,
        grant: Grant,
        until: Collection[str] = (),
        max_frames: int = MAX_QUEUED_FRAMES,
        max_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        self.cursor: Cursor | None = None
        self.ended = False
        self.revoked = False
        self.until = until
        self.grant = grant
        # Of the loop's time.
        self.ends_at = math.inf
        # The task that writes the stream: cancelled when its client does not read.
        self.writer: asyncio.Task[object] | None = None
        self._telemetry = telemetry
        self._totals = totals
        self._waker = waker
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._held: list[Frame] = []
        # Lists: a deque takes 760 bytes when it is empty.
        self._queue: list[bytes] = []
        self._bytes = 0
        self._resync_queued = False
        self._wake = Flag()
        # Whether what was queued at the last look has not been taken since.
        self._stalled = False

    def offer(self, frame: Frame) -> None:
        """Queue a frame, unless the stream has had it. A full queue is replaced by a resync."""
        if self.ended:
            return
        if self.cursor is None:
            self._hold(frame)
            return
        if frame.cursor.epoch != self.cursor.epoch:
            self._replace_queue(None, reason="epoch")
        elif frame.cursor.position <= self.cursor.position:
            return
        self.cursor = frame.cursor
        if len(self._queue) >= self._max_frames or self._bytes + len(frame.data) > self._max_bytes:
            self._overflow(frame)
        else:
            self._append(frame.data)
        if frame.type in self.until:
            self.end()

    def finish_replay(self, cursor: Cursor) -> None:
        """All events up to `cursor` have been written: queue the held frames after it, and take new ones."""
        self.cursor = cursor
        held = self._drop_held()
        for frame in held:
            self.offer(frame)

    def resync(self, cursor: Cursor, *, reason: str) -> None:
        """Replace what is queued by `event: resync`: events up to `cursor` are lost to the client."""
        if not self.ended and self.cursor is not None and cursor != self.cursor:
            self._replace_queue(cursor, reason=reason)
            self.cursor = cursor

    def notify(self, notice: bytes) -> None:
        """Queue what the hub says of its connection to Redis; a stream that is in its replay learns it at its end."""
        if not self.ended and self.cursor is not None:
            self._append(notice)

    def send_heartbeat(self) -> None:
        """Queue a heartbeat, unless something is queued."""
        if not self._queue and not self.ended:
            self._append(HEARTBEAT)

    def end(self) -> None:
        """Close the stream after what is queued and a `retry:` have been written."""
        if not self.ended:
            self.ended = True
            self._drop_held()
            self._append(encode_retry())

    def revoke(self) -> None:
        """Close the stream without what is queued: its client may not have it any more."""
        self.revoked = True
        self.discard()
        self._append(encode_retry())

    def discard(self) -> None:
        """The stream is not read any more."""
        self.ended = True
        self._drop_held()
        self._clear()
        self._wake.set()

    @property
    def is_stalled(self) -> bool:
        """Asked at intervals: whether what is queued was queued at the last call, and none of it was taken since."""
        stalled, self._stalled = self._stalled, bool(self._queue)
        return stalled and self._stalled

    def note_progress(self) -> None:
        """What did not come from the queue has been written: the client reads."""
        self._stalled = False

    async def take(self) -> bytes:
        """Wait until something is queued, and take of it what one write joins; b"" when the stream has ended."""
        queue = self._queue
        while not queue:
            if self.ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        size = count = 0
        while count < len(queue) and size < WRITE_BYTES:
            size += len(queue[count])
            count += 1
        frames = queue[:count]
        del queue[:count]
        self._bytes -= size
        self._stalled = self._resync_queued = False
        totals = self._totals
        totals.queued_bytes -= size
        totals.writes += 1
        totals.joined_writes += len(frames) > 1
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _append(self, data: bytes) -> None:
        if not self._queue:
            self._waker.wake(self._wake)
        self._queue.append(data)
        self._bytes += len(data)
        self._totals.queued_bytes += len(data)

    def _clear(self) -> None:
        self._queue.clear()
        self._totals.queued_bytes -= self._bytes
        self._bytes = 0

    def _hold(self, frame: Frame) -> None:
        self._held.append(frame)
        self._bytes += len(frame.data)
        self._totals.queued_bytes += len(frame.data)
        if len(self._held) > self._max_frames or self._bytes > self._max_bytes:
            # Fails closed: the client reconnects and resumes from the last id that was written.
            self._telemetry.count("events_streams_closed", reason="slow")
            self.end()

    def _drop_held(self) -> list[Frame]:
        held, self._held = self._held, []
        size = sum(len(frame.data) for frame in held)
        self._bytes -= size
        self._totals.queued_bytes -= size
        return held

    def _overflow(self, frame: Frame) -> None:
        if self._resync_queued:
            # Fails closed: the client has read nothing while its queue filled twice.
            self._clear()
            self._telemetry.count("events_streams_closed", reason="slow")
            self.end()
        else:
            # Fails open: the client loses events, and the resync says so.
            self._replace_queue(frame.cursor, reason="slow")

    def _replace_queue(self, cursor: Cursor | None, *, reason: str) -> None:
        self._telemetry.count("events_resyncs", reason=reason)
        self._clear()
        self._resync_queued = True
        self._append(encode_resync(cursor, reason=reason))
