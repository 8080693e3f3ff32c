"""One connection, in place of hypercorn.asyncio.tcp_server (Hypercorn 0.18).

Hypercorn's holds the descriptor of a closed connection for keep_alive_timeout (hypercorn #241), reads nothing while a
request is answered, so that a client that pipelined behind its stream and left is not noticed, and waits without an
end for a client that does not read (#308). Here the end of a connection is an event, whatever else is under way.
"""

import asyncio
import logging
import struct
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any, cast

from hypercorn.events import Closed, Event, RawData
from hypercorn.typing import ConnectionState

from app.kit.aio import Flag
from app.serving.http1 import Http1
from app.serving.http2 import Http2

if TYPE_CHECKING:
    from app.serving.listener import Listener

logger = logging.getLogger(__name__)
# Bytes that wait to be parsed, and to be sent, before their source is made to wait.
READ_HIGH_BYTES = 64 * 1024
WRITE_HIGH_BYTES = 64 * 1024

NO_LINGER = struct.pack("ii", 1, 0)
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    """Reads into the protocol, and writes what it says. The listener's clock ends it by `expire`."""

    protocol: Http1 | Http2

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._unread = bytearray()
        self._reading_paused = False
        self._arrived = Flag()
        self._writable = Flag()
        self._writable.set()
        self._reader: asyncio.Task[None] | None = None
        # No more is read for the protocol: the client has gone, or this side is closing.
        self.is_ending = False
        self.is_admitted = False
        self.received_bytes = 0
        self.address: str | None = None

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        client = _address(transport.get_extra_info("peername"))
        self.address = client[0] if client else None
        if not self._listener.add(self):
            self.transport.write(UNAVAILABLE)
            self.close()
            return
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        secured = transport.get_extra_info("ssl_object")
        speaks_http2 = secured is not None and secured.selected_alpn_protocol() == "h2"
        self.protocol = (Http2 if speaks_http2 else Http1)(
            limits=self._listener.limits,
            app=cast(Any, None),
            config=self._listener.config,
            context=cast(Any, self._listener.context),
            task_group=cast(Any, self._listener.handlers),
            connection_state=ConnectionState(self._listener.state),
            ssl=secured is not None,
            client=client,
            server=_address(transport.get_extra_info("sockname")),
            send=self.send,
        )
        self._reader = self._listener.loop.create_task(self._read())

    def data_received(self, data: bytes) -> None:
        if self.is_ending:
            return
        self.received_bytes += len(data)
        self._unread += data
        self._arrived.set()
        if len(self._unread) > READ_HIGH_BYTES:
            self.transport.pause_reading()
            self._reading_paused = True

    def eof_received(self) -> None:
        """A client that sends no more is taken to be gone, as one that closed: the two look the same."""
        self._end()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()
        self._writable.set()
        self._listener.remove(self)

    # What the protocol says.

    async def send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if not self.is_ending:
                self.transport.write(event.data)
                if not self._writable.is_set():
                    await self._writable.wait()
        elif isinstance(event, Closed):
            self.close()

    # What the listener's clock asks and says.

    @property
    def is_writable(self) -> bool:
        return self._writable.is_set()

    @property
    def is_waiting(self) -> bool:
        """Whether all that has come is with the application or answered."""
        return not self._unread and not self._arrived.is_set()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, nor a part of one."""
        return self.is_waiting and self.awaits == "request"

    @property
    def awaits(self) -> str:
        """What the client is to send: a `request`, the rest of its `head`, of its `body`, or `nothing`."""
        return "nothing" if self.is_ending else self.protocol.awaits

    def expire(self) -> None:
        """Close because the client takes too long; 408 where a request has begun and is not answered yet."""
        if answer := self.protocol.timeout():
            self.transport.write(answer)
        self.close()

    def close(self) -> None:
        """Close after what is written has been sent.

        Where something of the client's may be unread, the kernel would send a reset, which may destroy the response
        at the client (RFC 9112, 9.6): then this side ends its half, and waits for the client's a little.
        """
        if self.is_admitted and not self._unread and self.protocol.has_read_all:
            self._end()
            # Not twice: a TLS transport of asyncio and uvloop then forgets what the clock asks of it.
            if not self.transport.is_closing():
                self.transport.close()
        elif not self.transport.is_closing():
            self._end()
            if self._reading_paused:
                self.transport.resume_reading()
            if self.transport.can_write_eof():
                try:
                    self.transport.write_eof()
                except OSError:
                    # The client has reset the connection, and the loop has not said so yet.
                    self.transport.abort()

    def abort(self) -> None:
        """Close at once. The client gets a reset, and the kernel keeps nothing for it."""
        self._end()
        if socket := self.transport.get_extra_info("socket"):
            # As a struct of two integers: on, and 0 seconds.
            with suppress(OSError):
                socket.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        self.transport.abort()

    def report(self, error: Exception) -> None:
        """Of a defect. Neither the message nor the local variables: they may hold what the client sent."""
        logger.error("a connection ended by a defect of the server: %s", _places(error))
        self._listener.count("defect")

    def _end(self) -> None:
        """Tell the handler, and stop reading. The task is not cancelled within itself: it may be what closes."""
        if self.is_ending:
            return
        self.is_ending = True
        self._arrived.set()
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()

    async def _read(self) -> None:
        try:
            await self.protocol.initiate()
            while not self.is_ending:
                if not self._unread:
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                data = bytes(self._unread)
                self._unread.clear()
                if self._reading_paused:
                    self._reading_paused = False
                    self.transport.resume_reading()
                await self.protocol.handle(RawData(data))
        except asyncio.CancelledError:
            # Only `_end` cancels.
            pass
        except Exception as error:
            self.report(error)
        finally:
            self.close()
            await self.protocol.handle(Closed())


def _address(name: Any) -> tuple[str, int] | None:
    """Host and port; None of a Unix socket, and of a client that has gone already."""
    if not isinstance(name, tuple) or len(name) < 2:
        return None
    # A socket of both families names an IPv4 client so (RFC 4291, 2.5.5.2).
    return name[0].removeprefix("::ffff:") if "." in name[0] else name[0], name[1]


def _places(error: BaseException) -> str:
    places, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(places))}"
