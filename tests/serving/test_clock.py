"""How long a client may take, on a clock of the test's own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from app.serving import listener as listeners
from app.serving.clock import LINGER_SECONDS, Clock
from app.serving.connection import Connection
from app.serving.limits import Limits
from tests.serving.application import HEAD, Application, connected, ours
from tests.waiting import eventually

LIMITS = Limits(header_seconds=10, idle_seconds=75, body_bytes_per_second=100, send_seconds=30)


class Time:
    """Looks at the connections of a server as its clock does, at times that the test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.connections: list[Connection] = []
        self.clock = Clock(LIMITS)

    @property
    def connection(self) -> Connection:
        return self.connections[-1]

    def look(self) -> str | None:
        return self.clock.overdue(self.connection, self.now)

    def passes(self, seconds: float) -> str | None:
        """The first reason that is found at a look each second."""
        for _ in range(int(seconds)):
            self.now += 1
            if found := self.look():
                return found
        return None


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The server's own looks are a year apart."""
    time = Time()
    monkeypatch.setattr(Clock, "interval_seconds", 1e7)
    added = listeners.Listener.add

    def add(self: Any, connection: Connection) -> bool:
        time.connections.append(connection)
        return added(self, connection)

    monkeypatch.setattr(listeners.Listener, "add", add)
    return time


@asynccontextmanager
async def client(
    time: Time, app: Application, sent: bytes, *, until: Callable[[Connection], bool]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that has sent so much, when the server has seen it."""
    async with ours(app, limits=LIMITS) as port, connected(port) as (reader, writer):
        writer.write(sent)
        await eventually(lambda: time.connections and until(time.connection))
        monkeyed = time.clock
        monkeyed.interval_seconds = 1.0
        time.look()
        yield reader, writer


async def test_a_connection_that_sends_nothing_is_closed(time: Time) -> None:
    async with client(time, Application(), b"", until=lambda it: it.is_idle) as (reader, _):
        assert time.passes(9) is None
        assert time.passes(2) == "no request"
        assert await reader.read() == b""


@pytest.mark.parametrize("sent", [b"G", b"GET /" + HEAD, b"GET /" + HEAD + b"X-A: 1\r\n"])
async def test_a_slow_head_is_408_however_it_trickles(time: Time, sent: bytes) -> None:
    async with client(time, Application(), sent, until=lambda it: it.awaits == "head") as (reader, writer):
        for number in range(5):
            assert time.passes(1.9) is None
            before = time.connection.received_bytes
            writer.write(b"a")
            await eventually(lambda before=before: time.connection.received_bytes > before)  # type: ignore[misc]
            assert number < 5
        assert time.passes(6) == "slow head"
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_is_closed_after_its_time_and_each_request_begins_it_anew(time: Time) -> None:
    app = Application()
    async with client(time, app, b"GET /" + HEAD + b"\r\n", until=lambda it: it.is_idle and app.answered == 1) as (
        reader,
        writer,
    ):
        assert time.passes(70) is None
        writer.write(b"GET /" + HEAD + b"\r\n")
        await eventually(lambda: app.answered == 2 and time.connection.is_idle)
        time.look()
        assert time.passes(74) is None
        assert time.passes(2) == "idle"
        assert (await reader.read()).count(b"HTTP/1.1 200 ") == 2


async def test_a_slow_body_is_408_and_one_at_the_least_rate_is_not(time: Time) -> None:
    app = Application()
    sent = b"POST /read" + HEAD + b"Content-Length: 100000\r\n\r\n"
    async with client(time, app, sent, until=lambda it: it.awaits == "body") as (reader, writer):
        for _ in range(30):
            before = time.connection.received_bytes
            writer.write(b"x" * 110)
            await eventually(lambda before=before: time.connection.received_bytes > before)  # type: ignore[misc]
            await eventually(lambda: time.connection.is_waiting)
            assert time.passes(1) is None
        assert time.passes(20) == "slow body"
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    await eventually(lambda: app.waiting == 0)


async def test_the_time_that_the_application_takes_for_a_body_is_not_the_clients(time: Time) -> None:
    app = Application()
    sent = b"POST /slow" + HEAD + b"Content-Length: 10000000\r\n\r\n"
    async with client(time, app, sent, until=lambda it: it.awaits == "body") as (_, writer):
        writer.write(b"x" * 5_000_000)
        await eventually(lambda: not time.connection.is_waiting and time.connection._reading_paused)
        assert time.passes(500) is None
        app.release.set()


async def test_a_client_that_does_not_read_is_cut_and_its_handler_told(time: Time) -> None:
    app = Application()
    app.chunk = b"x" * 100_000
    async with client(time, app, b"GET /stream" + HEAD + b"\r\n", until=lambda it: not it.is_writable):
        assert time.passes(29) is None
        assert time.passes(2) == "unread response"
        await eventually(lambda: app.streams == 0)


async def test_a_client_that_reads_slowly_is_not_cut(time: Time) -> None:
    app = Application()
    app.chunk = b"x" * 100_000
    async with client(time, app, b"GET /stream" + HEAD + b"\r\n", until=lambda it: not it.is_writable) as (reader, _):
        for _ in range(4):
            assert time.passes(25) is None
            await reader.readexactly(600_000)
            await eventually(lambda: app.streams == 1)
        assert app.streams == 1


async def test_a_stream_that_is_read_has_no_end(time: Time) -> None:
    app = Application()
    app.chunk = b""
    async with client(time, app, b"GET /stream" + HEAD + b"\r\n", until=lambda it: app.streams == 1):
        assert time.connection.awaits == "nothing"
        assert time.passes(100_000) is None


async def test_a_client_that_keeps_its_half_of_a_closed_connection_is_cut(time: Time) -> None:
    async with client(time, Application(), b"junk\r\n\r\n", until=lambda it: it.is_ending) as (reader, _):
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        assert time.passes(LINGER_SECONDS + 1) == "slow to close"


async def test_what_ends_early_is_one_line_of_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with ours(Application(), limits=Limits(header_seconds=0.2)) as port:
        for _ in range(3):
            async with connected(port) as (reader, writer):
                writer.write(b"GET / HTTP/1.1\r\nCookie: hidden")
                assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    lines = [record.getMessage() for record in caplog.records if "connections ended" in record.getMessage()]
    assert lines == ["connections ended: 3 slow head"]
    assert "hidden" not in caplog.text


async def test_a_connection_that_ends_while_others_are_looked_at_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[Clock] = []

    def kept(limits: Limits) -> Clock:
        clocks.append(Clock(limits))
        return clocks[-1]

    monkeypatch.setattr(listeners, "Clock", kept)
    monkeypatch.setattr(listeners, "AT_A_TIME", 1)
    monkeypatch.setattr(Clock, "interval_seconds", 0)
    async with ours(Application()) as port:
        for _ in range(10):
            async with AsyncExitStack() as clients:
                for _ in range(20):
                    await clients.enter_async_context(connected(port))
                await eventually(lambda: len(clocks[0]._states) == 20)
            await eventually(lambda: not clocks[0]._states)


async def test_a_defect_ends_one_connection_and_not_the_clock(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    overdue, broken = Clock.overdue, list[Connection]()

    def fails_once(self: Clock, connection: Connection, now: float) -> str | None:
        if not broken:
            broken.append(connection)
            raise RuntimeError("hidden")
        return overdue(self, connection, now)

    monkeypatch.setattr(Clock, "overdue", fails_once)
    monkeypatch.setattr(Clock, "interval_seconds", 0.01)
    async with ours(Application(), limits=Limits(header_seconds=0.05)) as port:
        for _ in range(2):
            async with connected(port) as (reader, _):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "RuntimeError at" in record.getMessage()
    assert "hidden" not in caplog.text
