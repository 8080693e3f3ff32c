"""Hypercorn's HTTP/1.1 (0.18) without its faults, each named where it is mended."""

import dataclasses
from typing import Any

import h11
from hypercorn.protocol.events import Event, Request, Response, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WSStream
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from app.serving.limits import Limits
from app.serving.requests import Requests

CLOSE = (b"connection", b"close")
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class RequestStream(HTTPStream):
    """One request. What its handler sends after the client has gone is dropped, as Hypercorn does for WebSockets."""

    async def app_send(self, message: Any) -> None:
        if not self.closed:
            await super().app_send(message)
            if message and message["type"] == "http.response.start":
                # Its headers are sent, and an event stream lasts for hours.
                self.response = {**self.response, "headers": []}


class SocketStream(WSStream):
    """One WebSocket. A refused handshake closes its connection, which Hypercorn leaves open, waiting for frames.

    No compression (RFC 7692): Hypercorn inflates a message before it checks its size, and 1 MB would take 1 GB.
    """

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
            if isinstance(event, Request):
                # Its handler has not run yet, which would accept what is offered.
                self.handshake.extensions = None
        except (LocalProtocolError, RemoteProtocolError):
            # Frames after a close, or none at all. Hypercorn: a traceback.
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _handle_events(self) -> None:
        """What is malformed or too large gets a close frame, and ends the connection (RFC 6455, 7.1.7).

        Hypercorn ends the one without a frame, and keeps the other, and its handler, until its client closes.
        """
        for event in self.connection.events():
            if isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    await self._close(CloseConnection(code=CloseReason.MESSAGE_TOO_BIG))
                    return
                if event.message_finished and self.app_put is not None:
                    await self.app_put(self.buffer.to_message())
                    self.buffer.clear()
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                is_theirs = self.connection.state is ConnectionState.REMOTE_CLOSING
                await self._close(event.response() if is_theirs else event)
                return

    async def _close(self, frame: CloseConnection) -> None:
        await self._send_wsproto_event(frame)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def app_send(self, message: Any) -> None:
        await super().app_send(message)
        if self.state is ASGIWebsocketState.HTTPCLOSED and not self.closed:
            # Quart 0.23 waits for the disconnect before it ends.
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        await super()._send_error_response(status_code)
        await self.send(StreamClosed(stream_id=self.stream_id))


class Http1(H11Protocol):
    """HTTP/1.1 and WebSockets on one connection."""

    def __init__(self, *, limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self.connection: Requests | H11WSConnection = Requests(limits)

    @property
    def awaits(self) -> str:
        """What the client is to send: a `request`, the rest of its `head`, of its `body`, or `nothing`."""
        if isinstance(self.connection, h11.Connection):
            if self.connection.their_state is h11.IDLE:
                return "head" if self.connection.trailing_data[0] else "request"
            if self.connection.their_state is h11.SEND_BODY:
                return "body"
        return "nothing"

    @property
    def has_read_all(self) -> bool:
        """Whether nothing of what has come is left unread."""
        if not isinstance(self.connection, h11.Connection):
            return False
        return self.connection.their_state is not h11.ERROR and self.awaits in ("request", "nothing")

    def timeout(self) -> bytes:
        """What a client is told that takes too long; nothing where no request has begun, or it has its answer."""
        begun = self.awaits in ("head", "body") and self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        return TIMED_OUT if begun else b""

    async def stream_send(self, event: Event) -> None:
        if isinstance(event, Response) and event.status_code >= 200 and self._ends():
            event = dataclasses.replace(event, headers=[*event.headers, CLOSE])
        await super().stream_send(event)

    def _ends(self) -> bool:
        """Whether the connection closes after this response, which the client is then told (RFC 9112, 9.6).

        Hypercorn closes without a word when it stops, and when it answers before the whole body has come.
        """
        return self.context.terminated.is_set() or self.connection.their_state in (None, h11.SEND_BODY)

    async def _check_protocol(self, event: h11.Request) -> None:
        """No turn to HTTP/2, by Upgrade or by prior knowledge.

        RFC 9113 has removed the Upgrade: it is a tunnel past the rules of a proxy, and Hypercorn answers 101 to any
        HTTP2-Settings (h2c smuggling).
        """

    async def _create_stream(self, request: h11.Request) -> None:
        """As Hypercorn's, with our streams."""
        is_socket = _is_handshake(request)
        self.stream = (SocketStream if is_socket else RequestStream)(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        if is_socket and isinstance(self.connection, h11.Connection):
            self.connection = H11WSConnection(self.connection)
        self.keep_alive_requests += 1
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        await self.context.mark_request()


def _is_handshake(request: h11.Request) -> bool:
    if request.method != b"GET":
        return False
    found = {name: value for name, value in request.headers if name in (b"upgrade", b"connection")}
    tokens = [token.strip() for token in found.get(b"connection", b"").lower().split(b",")]
    return b"upgrade" in tokens and found.get(b"upgrade", b"").strip().lower() == b"websocket"
