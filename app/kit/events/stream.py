"""One open stream: what waits to be written to it, bounded in frames and in bytes."""

import asyncio
from collections.abc import Collection

from app.kit.events.event import Cursor
from app.kit.events.sse import HEARTBEAT, Frame, encode_resync, encode_retry
from app.kit.telemetry import Telemetry

MAX_QUEUED_FRAMES = 1000
MAX_QUEUED_BYTES = 1024 * 1024


class Stream:
    """Takes frames from the fan-out without ever making it wait, and gives them to the stream's writer.

    While `cursor` is None the client is joining: frames wait for the history before them. Afterwards it is the newest
    event that the client was given; none older is taken, so what comes twice is written once. A frame of a type in
    `until` is the last one.
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
        self._early: list[Frame] = []
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._resync_waits = False
        self._wake = asyncio.Event()

    def offer(self, frame: Frame) -> None:
        """Take a frame, or drop it where the client has had it. A client that is too slow loses what waits."""
        if self.ended:
            return
        if self.cursor is None:
            self._keep_for_later(frame)
            return
        if frame.cursor.epoch != self.cursor.epoch:
            self._replace_waiting(None, reason="epoch")
        elif frame.cursor.position <= self.cursor.position:
            return
        self.cursor = frame.cursor
        if len(self._waiting) >= self._max_frames or self._bytes + len(frame.data) > self._max_bytes:
            self._overflow(frame)
        else:
            self._append(frame.data)
        if frame.type in self.until:
            self.end()

    def go_live(self, cursor: Cursor) -> None:
        """Everything up to `cursor` has been written: what came after it follows, and what comes from now on."""
        self.cursor = cursor
        early, self._early = self._early, []
        self._bytes = 0
        for frame in early:
            self.offer(frame)

    def resync(self, cursor: Cursor, *, reason: str) -> None:
        """Tell the client that events up to `cursor` are lost to it. What waits is worth nothing then."""
        if not self.ended and self.cursor is not None and cursor != self.cursor:
            self._replace_waiting(cursor, reason=reason)
            self.cursor = cursor

    def beat(self) -> None:
        """Write a heartbeat, unless something waits to be written anyway."""
        if not self._waiting and not self.ended:
            self._waiting.append(HEARTBEAT)
            self._wake.set()

    def end(self) -> None:
        """What waits is still written, then when to come back, then the stream closes."""
        if not self.ended:
            self.ended = True
            self._early.clear()
            self._append(encode_retry())

    async def take(self) -> bytes:
        """Wait for something to write, and take all of it; b"" when nothing will come any more."""
        if self.ended and not self._waiting:
            return b""
        await self._wake.wait()
        self._wake.clear()
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        self._resync_waits = False
        return data

    def _append(self, data: bytes) -> None:
        self._waiting.append(data)
        self._bytes += len(data)
        self._wake.set()

    def _keep_for_later(self, frame: Frame) -> None:
        self._early.append(frame)
        self._bytes += len(frame.data)
        if len(self._early) > self._max_frames or self._bytes > self._max_bytes:
            # Fails closed: it comes back, and resumes from the last id that it was written.
            self._telemetry.count("events_streams_closed", reason="slow")
            self.end()

    def _overflow(self, frame: Frame) -> None:
        if self._resync_waits:
            # Fails closed: it has read nothing at all while its queue filled twice.
            self._waiting.clear()
            self._telemetry.count("events_streams_closed", reason="slow")
            self.end()
        else:
            # Fails open, and says so: the client loses events and is told to fetch afresh.
            self._replace_waiting(frame.cursor, reason="slow")

    def _replace_waiting(self, cursor: Cursor | None, *, reason: str) -> None:
        self._telemetry.count("events_resyncs", reason=reason)
        self._waiting.clear()
        self._bytes = 0
        self._resync_waits = True
        self._append(encode_resync(cursor, reason=reason))
