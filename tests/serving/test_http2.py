"""HTTP/2 over TLS: an early answer, junk and a client that leaves end one stream at most, and never keep a handler."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trustme

from app.serving.limits import Limits
from app.serving.tls import Certificate
from tests.serving.application import Application, ours
from tests.waiting import eventually


class Client:
    """An h2 connection over TLS, which keeps every event."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, window: int | None) -> None:
        self._reader, self.writer = reader, writer
        # It does not check what it sends.
        options = h2.config.H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(options)
        if window is not None:
            values = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def ask(self, path: bytes, *, method: bytes = b"GET", ends: bool = True) -> int:
        stream: int = self.h2.get_next_available_stream_id()
        head = [(b":method", method), (b":authority", b"x")]
        if path:
            head += [(b":scheme", b"https"), (b":path", path)]
        self.h2.send_headers(stream, head, end_stream=ends)
        self.flush()
        return stream

    async def read(self) -> None:
        """Until the connection ends."""
        with suppress(OSError, h2.exceptions.ProtocolError):
            while data := await self._reader.read(65536):
                self.events += self.h2.receive_data(data)
                self.flush()

    def status(self, stream: int) -> int | None:
        for event in self.events:
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                return int(dict(event.headers or [])[b":status"])
        return None

    def has(self, kind: type[h2.events.Event]) -> bool:
        return any(isinstance(event, kind) for event in self.events)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Certificate:
    made = authority.issue_cert("localhost")
    made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    return Certificate(str(tmp_path / "both.pem"), str(tmp_path / "both.pem"), http2=True)


@asynccontextmanager
async def opened(authority: trustme.CA, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def client(authority: trustme.CA, port: int, *, window: int | None = None) -> AsyncIterator[Client]:
    async with opened(authority, port) as (reader, writer):
        made = Client(reader, writer, window=window)
        reading = asyncio.create_task(made.read())
        try:
            yield made
        finally:
            reading.cancel()
            await asyncio.wait({reading})


async def test_an_early_answer_leaves_the_other_streams_and_the_connection(
    authority: trustme.CA, certificate: Certificate
) -> None:
    app = Application()
    async with ours(app, tls=certificate.context) as port, client(authority, port) as it:
        stream = it.ask(b"/stream")
        await eventually(lambda: it.status(stream) == 200)
        upload = it.ask(b"/", method=b"POST", ends=False)
        await eventually(lambda: it.status(upload) == 200)
        with suppress(h2.exceptions.ProtocolError):
            for _ in range(3):
                it.h2.send_data(upload, b"x" * 10_000)
                it.flush()
        # Bytes that were on their way when the answer came, which a client's library would not send any more.
        it.writer.write(struct.pack(">HBBBL", 0, 5, 0, 0, upload) + b"late!")
        after = it.ask(b"/")
        await eventually(lambda: it.status(after) == 200)
        assert app.streams == 1


@pytest.mark.parametrize(
    ("path", "method"),
    [("/é".encode(), b"GET"), (b"?x", b"GET"), (b"/?page=\xff", b"GET"), (b"x", b"GET"), (b"", b"CONNECT")],
)
async def test_a_target_that_is_not_valid_ends_its_stream_alone(
    authority: trustme.CA, certificate: Certificate, path: bytes, method: bytes
) -> None:
    async with ours(Application(), tls=certificate.context) as port, client(authority, port) as it:
        bad = it.ask(path, method=method)
        await eventually(lambda: it.status(bad) == 400 or it.has(h2.events.StreamReset))
        good = it.ask(b"/")
        await eventually(lambda: it.status(good) == 200)


async def test_streams_of_a_connection_that_is_gone_are_freed(authority: trustme.CA, certificate: Certificate) -> None:
    app = Application()
    app.chunk = b""
    async with ours(app, tls=certificate.context) as port:
        async with client(authority, port) as it:
            for _ in range(50):
                it.ask(b"/stream")
            await eventually(lambda: app.streams == 50)
        await eventually(lambda: app.streams == 0)


async def test_a_stop_cuts_streams_whose_window_is_closed(authority: trustme.CA, certificate: Certificate) -> None:
    app = Application()
    async with ours(app, tls=certificate.context) as port:
        leaving = asyncio.create_task(_closed_window(authority, port))
        await eventually(lambda: app.streams == 5)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 10
    assert app.streams == 0
    await leaving


async def _closed_window(authority: trustme.CA, port: int) -> None:
    async with opened(authority, port) as (reader, writer):
        it = Client(reader, writer, window=0)
        for _ in range(5):
            it.ask(b"/stream")
        await it.read()


async def test_a_stream_whose_window_stays_closed_is_reset(authority: trustme.CA, certificate: Certificate) -> None:
    app = Application()
    app.chunk = b"x" * 100_000
    limits = Limits(send_seconds=0.3)
    async with ours(app, tls=certificate.context, limits=limits) as port, client(authority, port, window=0) as it:
        it.ask(b"/stream")
        await eventually(lambda: app.streams == 1)
        # Two: one that fits beside what fills the buffer.
        await eventually(lambda: it.has(h2.events.StreamReset))
        assert app.written <= 2
        await eventually(lambda: app.streams == 0)


async def test_rapid_resets_end_the_connection(authority: trustme.CA, certificate: Certificate) -> None:
    app = Application()
    async with ours(app, tls=certificate.context) as port, client(authority, port) as it:
        with suppress(h2.exceptions.ProtocolError):
            for _ in range(1000):
                it.h2.reset_stream(it.ask(b"/slow"))
                it.flush()
                await asyncio.sleep(0)
        await eventually(lambda: it.has(h2.events.ConnectionTerminated))
        [ended] = [event for event in it.events if isinstance(event, h2.events.ConnectionTerminated)]
        assert ended.error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
        app.release.set()
        await eventually(lambda: app.waiting == 0)


async def test_priorities_are_ignored(authority: trustme.CA, certificate: Certificate) -> None:
    async with ours(Application(), tls=certificate.context) as port, client(authority, port) as it:
        for stream in range(1, 6001, 2):
            it.h2.prioritize(stream, weight=16, depends_on=0)
        it.flush()
        asked = it.ask(b"/")
        await eventually(lambda: it.status(asked) == 200)
