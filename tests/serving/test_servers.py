"""The same application under each server: the tests that use one, and what Granian does at its start and its stop."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from app.serving.granian_server import WITHOUT_EFFECT, refusals
from app.settings import load_settings
from app.settings_server import ServerSettings
from tests.commands import ROOT, environment, quartet, serving
from tests.http.wire import converse
from tests.services import end
from tests.serving.slow_clients import ASK, JSON, LIVE, slow_clients
from tests.serving.test_load import ROOM, STOP_SECONDS, Callers, descriptors, streams
from tests.serving.test_sockets import authority, trusting, write
from tests.waiting import eventually

GRANIAN = ("-m", "app.cli", "serve", "--server", "granian")
__all__ = ["authority"]

# What imports these serves the application by TEST_SERVER.
SERVES = re.compile(r"^from tests\.(served|browsing) import", re.MULTILINE)
SERVED = sorted(str(path) for path in (ROOT / "tests").rglob("test_*.py") if SERVES.search(path.read_text()))


@pytest.mark.long
@pytest.mark.parametrize("server", ["granian", "plain"])
def test_the_tests_with_a_server_hold_on_the_others(server: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SERVED]
    done = subprocess.run(
        command, env={**os.environ, "TEST_SERVER": server}, cwd=ROOT, capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stdout[-5000:]


async def test_granian_serves_and_its_stop_ends_streams_first(embedded: dict[str, str], tmp_path: Path) -> None:
    with serving(embedded | {"DRAIN_SECONDS": "0.2"}, tmp_path, *GRANIAN) as (process, port):
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{url}/health/live")
            assert (answer.status_code, answer.headers["server"]) == (200, "granian")
            async with client.stream("GET", f"{url}/api/v1/events") as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                process.send_signal(signal.SIGTERM)
                async for _ in lines:
                    pass
        assert await asyncio.to_thread(process.wait, 30) == 0


REFUSED = {
    "BIND": {"BIND": "fd://3"},
    "WORKERS": {"WORKERS": "2", "REDIS_URL": "redis://127.0.0.1:1"},
    "WORKER_MAX_REQUESTS": {"WORKER_MAX_REQUESTS": "10"},
    "REDIRECT_BIND": {"REDIRECT_BIND": "127.0.0.1:1", "TLS_CERTIFICATE": "cert.pem", "TLS_KEY": "key.pem"},
    "MAX_HEADER_BYTES": {"MAX_HEADER_BYTES": "4096"},
    **{name: {name: "7000"} for name in WITHOUT_EFFECT if name != "SEND_TIMEOUT_SECONDS"},
    "SEND_TIMEOUT_SECONDS": {"SEND_TIMEOUT_SECONDS": "7"},
}
# Each is used by the servers of the tests below; HSTS is the application's.
HOLDS = {
    "SERVER",
    "READINESS_DELAY_SECONDS",
    "DRAIN_SECONDS",
    "TLS_CERTIFICATE",
    "TLS_KEY",
    "HTTP2",
    "HEADER_TIMEOUT_SECONDS",
    "MAX_CONNECTIONS",
    "HSTS_SECONDS",
}


def test_under_granian_every_setting_of_the_server_holds_or_is_refused() -> None:
    assert {*HOLDS, *REFUSED} == {name.upper() for name in ServerSettings.model_fields}


@pytest.mark.parametrize("name", REFUSED)
def test_what_granian_cannot_do_is_refused_by_name(name: str) -> None:
    [problem] = refusals(load_settings({"SERVER": "granian", **REFUSED[name]}))
    assert problem.startswith(name)
    assert "\n" not in problem


def test_a_refusal_ends_the_start(tmp_path: Path) -> None:
    done = quartet(tmp_path, "serve", SERVER="granian", BIND="fd://3")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: SERVER=granian:\n  BIND=fd://: Granian opens its sockets itself\n",
    )


async def test_granian_has_tls_http2_and_the_limits_of_a_head(
    embedded: dict[str, str], authority: trustme.CA, tmp_path: Path
) -> None:
    settings = embedded | write(authority, tmp_path)
    settings |= {"HTTP2": "1", "MAX_HEADER_BYTES": "9000", "HEADER_TIMEOUT_SECONDS": "0.5"}
    with serving(settings, tmp_path, *GRANIAN) as (_, port):
        async with httpx.AsyncClient(verify=trusting(authority)) as client:
            assert (await client.get(f"https://localhost:{port}/health/live")).status_code == 200
            answer = await client.get(f"https://localhost:{port}/health/live", headers={"X-Large": "a" * 20_000})
            assert answer.status_code == 431
        options: Any = {"ssl": trusting(authority), "server_hostname": "localhost"}
        # A head without an end: closed after its time.
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        async with asyncio.timeout(30):
            assert b" 200 " not in await reader.read()
        writer.close()
        options["ssl"].set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", port, **options)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        writer.close()


async def test_granian_lets_connections_beyond_its_limit_wait(embedded: dict[str, str], tmp_path: Path) -> None:
    settings = embedded | {"MAX_CONNECTIONS": "3", "HEADER_TIMEOUT_SECONDS": "60"}
    with serving(settings, tmp_path, *GRANIAN) as (_, port):
        writers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(LIVE + b"\r\n")
            async with asyncio.timeout(30):
                await reader.readuntil(b"\r\n\r\n")
            writers.append(writer)
        asking = asyncio.create_task(converse(port, ASK, seconds=60))
        await asyncio.wait({asking}, timeout=0.5)
        assert not asking.done()
        writers[0].close()
        assert (await asking).statuses == [200]
        for writer in writers:
            writer.close()


async def test_granian_is_free_of_clients_that_leave_and_stops_beside_those_that_stay(
    embedded: dict[str, str], sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "walk.db")
    # The callers know their answers by the ids that they state.
    settings = {"DRAIN_SECONDS": "0.2", "LOG_LEVEL": "warning", "TRUSTED_PROXIES": "127.0.0.1"}
    with serving(embedded | settings, tmp_path, *GRANIAN) as (process, port):
        await converse(port, ASK)
        before = descriptors(process.pid)
        async with streams(port, 30) as opened, slow_clients(port, heads=0, bodies=0, streams=20):
            for stream in opened:
                stream.cancel()
            _, body = await asyncio.open_connection("127.0.0.1", port)
            body.write(b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n" + JSON)
            await body.drain()
            body.transport.abort()
        await eventually(lambda: descriptors(process.pid) <= before + ROOM, seconds=60)
        callers = Callers(port)
        async with streams(port, 20) as opened, slow_clients(port, heads=0, bodies=0, streams=20):
            calling = [asyncio.create_task(callers.call(number)) for number in range(4)]
            await eventually(lambda: callers.answered > 100, seconds=60)
            callers.stopping = True
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, STOP_SECONDS) == 0
            await asyncio.gather(*calling, *opened)
        assert callers.broken == []


def start(settings: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *GRANIAN], env=environment(settings), cwd=folder)


async def test_granian_on_a_unix_socket_is_unready_before_it_stops(
    embedded: dict[str, str], sqlite_template: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    shutil.copy(sqlite_template, tmp_path / "walk.db")
    process = start(embedded | {"BIND": f"unix:{path}", "READINESS_DELAY_SECONDS": "1"}, tmp_path)
    try:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as client:

            async def status(of: str) -> int | None:
                try:
                    return (await client.get(f"http://localhost/health/{of}")).status_code
                except httpx.TransportError:
                    return None

            async def has(of: str, expected: int) -> bool:
                return await status(of) == expected

            await eventually(lambda: has("ready", 200), seconds=30)
            process.send_signal(signal.SIGTERM)
            await eventually(lambda: has("ready", 503))
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        end(process)
