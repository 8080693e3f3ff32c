"""Each fault of Hypercorn that app/serving mends: ours is right, and plain Hypercorn still has it.

Where the second half fails, a newer Hypercorn is right, and what stands in for it in app/serving can go.
"""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import hypercorn
import pytest
from hypercorn.asyncio import serve as hypercorn_serve

from tests.http.wire import converse
from tests.services import free_port
from tests.serving.application import HEAD, Application, configured, connected, ours
from tests.waiting import eventually

HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: aGlkZGVuaGlkZGVuaGlkZA==\r\n"
)


@asynccontextmanager
async def plain(app: Application) -> AsyncIterator[int]:
    config, port, stop = configured(), free_port(), asyncio.Event()
    config.bind = [f"127.0.0.1:{port}"]
    task = asyncio.create_task(hypercorn_serve(cast(Any, app), config, shutdown_trigger=stop.wait))

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(listens)
    try:
        yield port
    finally:
        stop.set()
        await asyncio.wait({task}, timeout=1)
        task.cancel()
        # What the server leaves in the loop, and how it ends, is not what is tested.
        await asyncio.wait({task}, timeout=5)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def holds_descriptors(app: Application, port: int) -> bool:
    """Whether closed connections keep their descriptors."""
    before = descriptors()
    for _ in range(20):
        await converse(port, b"GET /" + HEAD + b"Connection: close\r\n\r\n")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
    for _ in range(50):
        if descriptors() <= before + 2:
            return False
        await asyncio.sleep(0.01)
    return True


async def keeps_a_stream_of_a_client_that_pipelined(app: Application, port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    app.chunk = b""
    writer.write((b"GET /stream" + HEAD + b"\r\n") * 2)
    await eventually(lambda: app.streams == 1)
    writer.close()
    await writer.wait_closed()
    for _ in range(50):
        if not app.streams:
            return False
        await asyncio.sleep(0.01)
    return True


async def speaks_http2(app: Application, port: int) -> bool:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(preface)
    first = await reader.readexactly(12)
    writer.close()
    return not first.startswith(b"HTTP/1.1 400")


async def upgrades_to_h2c(app: Application, port: int) -> bool:
    lines = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /" + HEAD + lines)
    line = await reader.readline()
    writer.close()
    return line.startswith(b"HTTP/1.1 101")


async def keeps_a_connection_of_both_lengths(app: Application, port: int) -> bool:
    sent = b"POST /" + HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    return not (await converse(port, sent, seconds=0.5)).closed


async def keeps_a_refused_websocket(app: Application, port: int) -> bool:
    sent = b"GET /" + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\n\r\n"
    return not (await converse(port, sent, seconds=0.5)).closed


async def ends_a_malformed_frame_without_a_close_frame(app: Application, port: int) -> bool:
    received = await _after_frame(port, b"\x83\x80mask")
    # Its length and its reason are not what is tested.
    return received[:1] != b"\x88" or received[2:4] != b"\x03\xea"


async def keeps_a_websocket_whose_message_is_too_large(app: Application, port: int) -> bool:
    try:
        async with asyncio.timeout(4):
            received = await _after_frame(port, b"\x82\xfe\x04\x00mask" + bytes(1024))
    except TimeoutError:
        return True
    return not received.startswith(b"\x88\x02\x03\xf1")


async def _after_frame(port: int, frame: bytes) -> bytes:
    """What comes after the handshake and this frame, to the end of the connection."""
    async with connected(port) as (reader, writer):
        writer.write(b"GET /socket" + HEAD + HANDSHAKE + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame)
        return await reader.read()


async def takes_a_whole_head_of_any_size(app: Application, port: int) -> bool:
    return (await converse(port, b"GET /" + b"a" * 15_000 + HEAD + b"Connection: close\r\n\r\n")).statuses == [200]


async def takes_a_target_that_is_no_path(app: Application, port: int) -> bool:
    return (await converse(port, b"GET ?x" + HEAD + b"Connection: close\r\n\r\n")).statuses != [400]


async def closes_without_a_word(app: Application, port: int) -> bool:
    """Before the whole body has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /" + HEAD + b"Content-Length: 10\r\n\r\nabc")
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return b"connection: close" not in head.lower()


DEVIATIONS: list[Callable[[Application, int], Awaitable[bool]]] = [
    holds_descriptors,
    keeps_a_stream_of_a_client_that_pipelined,
    speaks_http2,
    upgrades_to_h2c,
    keeps_a_connection_of_both_lengths,
    keeps_a_refused_websocket,
    ends_a_malformed_frame_without_a_close_frame,
    keeps_a_websocket_whose_message_is_too_large,
    takes_a_whole_head_of_any_size,
    takes_a_target_that_is_no_path,
    closes_without_a_word,
]


@pytest.mark.parametrize("fault", DEVIATIONS, ids=lambda fault: fault.__name__)
async def test_we_do_not_have_this_fault(fault: Callable[[Application, int], Awaitable[bool]]) -> None:
    app = Application()
    async with ours(app) as port:
        assert not await fault(app, port)


@pytest.mark.parametrize("fault", DEVIATIONS, ids=lambda fault: fault.__name__)
async def test_hypercorn_still_has_it(fault: Callable[[Application, int], Awaitable[bool]]) -> None:
    app = Application()
    async with plain(app) as port:
        assert await fault(app, port), f"Hypercorn {hypercorn.__name__} is right now: app/serving can be simpler"


async def test_each_target_that_is_no_path_is_400() -> None:
    async with ours(Application()) as port:
        for target in (b"?x", b"x", b"?x-\xc3"):
            answer = await converse(port, b"GET " + target + HEAD + b"\r\n")
            assert answer.statuses == [400]


SECRET = b"Cookie: id=hidden\r\n"
MALFORMED = {
    "request line": b"hidden hidden\r\n\r\n",
    "target": b"GET ?hidden" + HEAD + SECRET + b"\r\n",
    "version": b"GET /hidden HTTP/hidden\r\n" + SECRET + b"\r\n",
    "header": b"GET /" + HEAD + SECRET + b"hidden\r\n\r\n",
    "length": b"POST /" + HEAD + SECRET + b"Content-Length: hidden\r\n\r\n",
    "chunk": b"POST /read" + HEAD + SECRET + b"Transfer-Encoding: chunked\r\n\r\nhidden\r\n",
    "body that ends": b"POST /read" + HEAD + SECRET + b"Content-Length: 100\r\n\r\nhidden",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nhidden",
    "TLS": b"\x16\x03\x01\x02hidden",
    "handshake": b"GET ?hidden" + HEAD + SECRET + HANDSHAKE + b"\r\n",
    "refused handshake": b"GET /missing" + HEAD + SECRET + HANDSHAKE + b"\r\n\x81\x06hidden",
    "frame": b"GET /socket" + HEAD + SECRET + HANDSHAKE + b"\r\n\xff\x06hidden",
    "frames after a close": b"GET /socket" + HEAD + SECRET + HANDSHAKE + b"\r\n\x88\x80hide\x81\x86hidehidden",
}


async def test_nothing_that_a_client_sends_is_logged_raw(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in a message nor in a traceback, at any level."""
    caplog.set_level("DEBUG")
    async with ours(Application()) as port:
        for sent in MALFORMED.values():
            await converse(port, sent, half_close=True)
    assert "hidden" not in caplog.text
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_reset_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = Application()
    async with ours(app) as port:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /stream" + HEAD + b"\r\n")
            await eventually(lambda: app.streams == 1)
            writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await eventually(lambda: app.streams == 0)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")] == []
