"""One open stream: the queue of what is to be written to it, bounded in frames and in bytes."""

import asyncio
from collections.abc import Collection

from app.kit.events.event import Cursor
from app.kit.events.sse import HEARTBEAT, Frame, encode_resync, encode_retry
from app.kit.telemetry import Telemetry

MAX_QUEUED_FRAMES = 1000
MAX_QUEUED_BYTES = 1024 * 1024


class Stream:
    """The queue between the fan-out, which never waits for it, and the writer of one stream.

    While `cursor` is None the history is being replayed, and frames are held back until finish_replay(). Afterwards
    `cursor` is that of the newest frame that was taken; older ones are dropped, so that no event is written twice. The
    stream ends after a frame of a type in `until`.
    """

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        until: Collection[str] = (),
        max_frames: int = MAX_QUEUED_FRAMES,
        max_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        self.cursor: Cursor | None = None
        self.ended = False
        self._telemetry = telemetry
        self.until = until
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._held: list[Frame] = []
        self._queue: list[bytes] = []
        self._bytes = 0
        self._resync_queued = False
        self._wake = asyncio.Event()

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
        held, self._held = self._held, []
        self._bytes = 0
        for frame in held:
            self.offer(frame)

    def resync(self, cursor: Cursor, *, reason: str) -> None:
        """Replace what is queued by `event: resync`: events up to `cursor` are lost to the client."""
        if not self.ended and self.cursor is not None and cursor != self.cursor:
            self._replace_queue(cursor, reason=reason)
            self.cursor = cursor

    def send_heartbeat(self) -> None:
        """Queue a heartbeat, unless something is queued."""
        if not self._queue and not self.ended:
            self._queue.append(HEARTBEAT)
            self._wake.set()

    def end(self) -> None:
        """Close the stream after what is queued and a `retry:` have been written."""
        if not self.ended:
            self.ended = True
            self._held.clear()
            self._append(encode_retry())

    async def take(self) -> bytes:
        """Wait until something is queued, and take all of it; b"" when the stream has ended."""
        if self.ended and not self._queue:
            return b""
        await self._wake.wait()
        self._wake.clear()
        data = b"".join(self._queue)
        self._queue.clear()
        self._bytes = 0
        self._resync_queued = False
        return data

    def _append(self, data: bytes) -> None:
        self._queue.append(data)
        self._bytes += len(data)
        self._wake.set()

    def _hold(self, frame: Frame) -> None:
        self._held.append(frame)
        self._bytes += len(frame.data)
        if len(self._held) > self._max_frames or self._bytes > self._max_bytes:
            # Fails closed: the client reconnects and resumes from the last id that was written.
            self._telemetry.count("events_streams_closed", reason="slow")
            self.end()

    def _overflow(self, frame: Frame) -> None:
        if self._resync_queued:
            # Fails closed: the client has read nothing while its queue filled twice.
            self._queue.clear()
            self._telemetry.count("events_streams_closed", reason="slow")
            self.end()
        else:
            # Fails open: the client loses events, and the resync says so.
            self._replace_queue(frame.cursor, reason="slow")

    def _replace_queue(self, cursor: Cursor | None, *, reason: str) -> None:
        self._telemetry.count("events_resyncs", reason=reason)
        self._queue.clear()
        self._bytes = 0
        self._resync_queued = True
        self._append(encode_resync(cursor, reason=reason))
