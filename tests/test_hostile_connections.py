"""Connections that no honest client makes, to the server as it is started."""

import asyncio
import shutil
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.commands import ROOT, serving
from tests.http.wire import converse
from tests.waiting import eventually

SOCKET = (
    b"GET /api/v1/events/socket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YWFhYWFhYWFhYWFhYWFhYQ==\r\n"
)
MEBIBYTE = 1 << 20
STARTS = {
    "quartet": ("-m", "app.cli", "serve"),
    "hypercorn": ("-m", "hypercorn", "-c", str(ROOT / "hypercorn.toml"), "-b", "127.0.0.1:{port}", "app.asgi:app"),
}


@pytest.fixture
def migrated(embedded: dict[str, str], sqlite_template: Path, tmp_path: Path) -> dict[str, str]:
    shutil.copy(sqlite_template, tmp_path / "walk.db")
    return embedded


def compressed_message(size: int) -> bytes:
    """A text message of `size` zeros in one masked frame (RFC 6455, 5.2; RFC 7692, 7.2.1)."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = (deflate.compress(bytes(size)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    return b"\xc1\xff" + len(data).to_bytes(8, "big") + bytes(4) + data


def http2_request(path: bytes) -> bytes:
    client = H2Connection(H2Configuration(header_encoding=None, validate_outbound_headers=False))
    client.initiate_connection()
    headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"127.0.0.1"), (b":path", path)]
    client.send_headers(1, headers, end_stream=True)
    return client.data_to_send()


async def send(port: int, data: bytes) -> None:
    """Send, and read to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    # On a loaded machine the port is open long before the first answer comes.
    async with asyncio.timeout(60):
        # A reset, or a broken pipe, where the server has not read all that was sent.
        with suppress(OSError):
            while await reader.read(MEBIBYTE):
                pass
    writer.close()


def peak_kib(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("start", STARTS)
async def test_a_websocket_inflates_nothing(migrated: dict[str, str], tmp_path: Path, start: str) -> None:
    with serving(migrated, tmp_path, *STARTS[start]) as (process, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SOCKET + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n")
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"sec-websocket-extensions" not in head.lower()
            before = peak_kib(process.pid)
            writer.write(compressed_message(256 * MEBIBYTE))
            while await reader.read(MEBIBYTE):
                pass
        writer.close()
        assert peak_kib(process.pid) < before + 100 * 1024


MALFORMED = [
    SOCKET + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
    SOCKET + b"Sec-WebSocket-Extensions: \xff\r\n\r\n",
    SOCKET.replace(b": Upgrade", b": Upgrade, \xff") + b"\r\n",
    http2_request(b"/\xff"),
]


async def test_a_malformed_connection_is_400_and_leaves_nothing_in_the_log(
    migrated: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(migrated, tmp_path, *STARTS["quartet"]) as (_, port):
        for data in MALFORMED:
            assert (await converse(port, data)).statuses == [400]
        await send(port, b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    log = capfd.readouterr().err
    assert "Traceback" not in log
    assert "ERROR" not in log


async def test_a_malformed_connection_is_one_line_in_the_log_of_plain_hypercorn(
    migrated: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = ""

    async def are_told() -> bool:
        nonlocal log
        log += capfd.readouterr().err
        return log.count("a connection has failed: UnicodeDecodeError") == len(MALFORMED)

    with serving(migrated, tmp_path, *STARTS["hypercorn"]) as (_, port):
        for data in MALFORMED:
            await send(port, data)
        await eventually(are_told, seconds=60)
        await send(port, b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert "Traceback" not in log
