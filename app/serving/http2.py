"""Hypercorn's HTTP/2 (0.18) over TLS, where HTTP2 is set, without the faults that break a connection or keep a stream.

An event for a stream that is answered already is a KeyError there, which ends the connection (hypercorn #197, #329);
so does a `:method` or `:path` that is not ASCII, a CONNECT, and the thousandth PRIORITY frame. Rapid resets have no end
(CVE-2023-44487). A client that opens no window holds its handlers, and memory without a bound: to take nothing from a
stream's buffer lets its handler write more.
"""

import asyncio
import re
from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hypercorn.events import Closed, RawData
from hypercorn.events import Event as ConnectionEvent
from hypercorn.protocol.events import Body, Data, EndBody, EndData, Event
from hypercorn.protocol.h2 import (
    BUFFER_HIGH_WATER,
    BUFFER_LOW_WATER,
    BufferCompleteError,
    H2Protocol,
    StreamBuffer,
)

from app.serving.limits import Limits

# Streams that a client may reset beyond half of its requests.
MOST_RESETS = 100
_PATH = re.compile(rb"/[\x21-\x7e]*|\*")
# RFC 9110, 5.6.2 and 9.1.
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class BoundedBuffer(StreamBuffer):
    """What a stream has to send: a handler waits while it is more than BUFFER_HIGH_WATER."""

    async def push(self, data: bytes) -> None:
        if self._complete:
            raise BufferCompleteError
        self.buffer.extend(data)
        await self._is_empty.clear()
        if len(self.buffer) >= BUFFER_HIGH_WATER:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class Http2(H2Protocol):
    """HTTP/2 on one connection. Priorities are not kept (RFC 9113, 5.3.2)."""

    def __init__(self, *, limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._resets = 0
        self._is_set_up = False
        self._receiving: set[int] = set()
        codes = h2.settings.SettingCodes
        # Without ENABLE_CONNECT_PROTOCOL: WebSockets are for HTTP/1.1.
        values = {
            codes.MAX_CONCURRENT_STREAMS: self.config.h2_max_concurrent_streams,
            codes.MAX_HEADER_LIST_SIZE: limits.header_bytes,
        }
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=values)

    @property
    def awaits(self) -> str:
        """What the client is to send: a `request`, the rest of a `body`, or `nothing`."""
        if self._receiving:
            return "body"
        return "nothing" if self.streams else "request"

    @property
    def has_read_all(self) -> bool:
        return not self.streams

    def timeout(self) -> bytes:
        """A GOAWAY."""
        return self._goodbye(h2.errors.ErrorCodes.NO_ERROR)

    async def handle(self, event: ConnectionEvent) -> None:
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):
                await buffer.close()

    async def stream_send(self, event: Event) -> None:
        if not isinstance(event, (Body, Data, EndBody, EndData)):
            await super().stream_send(event)
            return
        try:
            async with asyncio.timeout(self._limits.send_seconds):
                await super().stream_send(event)
        except TimeoutError:
            # The client opens no window: it reads nothing.
            await self._reset(event.stream_id, h2.errors.ErrorCodes.CANCEL)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if not self._is_set_up:
                if not isinstance(event, h2.events.RemoteSettingsChanged):
                    # RFC 9113, 3.4: a client begins with its settings, which h2 does not check.
                    await self._end(h2.errors.ErrorCodes.PROTOCOL_ERROR)
                    return
                self._is_set_up = True
            if isinstance(event, h2.events.RequestReceived):
                await self._request(event)
            elif isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                # Answered before its body had come: the rest is read and dropped, or its window would be lost.
                self.connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self._receiving.discard(event.stream_id)
                self._resets += 1
                if self._resets > MOST_RESETS + self.keep_alive_requests // 2:
                    await self._end(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                    return
                await super()._handle_events([event])
            elif not isinstance(event, h2.events.PriorityUpdated):
                if isinstance(event, h2.events.StreamEnded):
                    self._receiving.discard(event.stream_id)
                await super()._handle_events([event])
        await self._flush()

    async def _request(self, event: h2.events.RequestReceived) -> None:
        status = self._refusal(event.headers or [])
        if status:
            with suppress(h2.exceptions.ProtocolError):
                headers = [(b":status", b"%d" % status), (b"content-length", b"0")]
                self.connection.send_headers(event.stream_id, headers, end_stream=True)
            return
        if event.stream_ended is None:
            self._receiving.add(event.stream_id)
        await super()._handle_events([event])

    def _refusal(self, headers: list[Any]) -> int | None:
        found = dict(headers)
        path = found.get(b":path", b"")
        if len(path) > self._limits.request_line_bytes:
            return 414
        if len(headers) > self._limits.header_count:
            return 431
        method = found.get(b":method", b"")
        if method == b"CONNECT" or not _METHOD.fullmatch(method) or not _PATH.fullmatch(path):
            return 400
        return None

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        await super()._create_stream(request)
        # Its handler has not run yet.
        if request.stream_id in self.stream_buffers:
            self.stream_buffers[request.stream_id] = BoundedBuffer(self.context.event_class)

    async def _close_stream(self, stream_id: int) -> None:
        if stream_id in self._receiving:
            # RFC 9113, 8.1: the response is whole, and the rest of the request is not wanted.
            self._receiving.discard(stream_id)
            await super()._close_stream(stream_id)
            await self._reset(stream_id, h2.errors.ErrorCodes.NO_ERROR)
            return
        await super()._close_stream(stream_id)

    async def _reset(self, stream_id: int, code: h2.errors.ErrorCodes) -> None:
        with suppress(h2.exceptions.ProtocolError):
            self.connection.reset_stream(stream_id, code)
            await self._flush()
        await super()._close_stream(stream_id)

    async def _end(self, code: h2.errors.ErrorCodes) -> None:
        await self.send(RawData(self._goodbye(code)))
        await self.send(Closed())

    def _goodbye(self, code: h2.errors.ErrorCodes) -> bytes:
        with suppress(h2.exceptions.ProtocolError):
            self.connection.close_connection(code)
        return self.connection.data_to_send()
