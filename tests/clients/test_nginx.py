"""Through nginx with the configuration that is shipped, over TLS and HTTP/2."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.clients.chromium import opened_page
from tests.clients.http2 import connected
from tests.nginx import Nginx
from tests.served import Served
from tests.services import end, free_port
from tests.waiting import eventually

STREAMS = 50


@pytest.fixture
def nginx(server: Served, tmp_path: Path) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path, nodes=[server.port])
    process = nginx.start()
    yield nginx
    end(process)


@pytest.mark.parametrize("requests", [100, pytest.param(1_100, marks=pytest.mark.long)])
async def test_fifty_streams_on_one_connection_outlive_many_requests(
    server: Served, nginx: Nginx, requests: int
) -> None:
    authority = f"127.0.0.1:{nginx.port}"
    async with connected(nginx.port, nginx.tls) as connection:
        streams = [connection.get("/api/v1/events", authority=authority) for _ in range(STREAMS)]

        def all_have(text: str) -> bool:
            return all(text.encode() in connection.bodies[number] for number in streams)

        await eventually(lambda: all_have("id: "), seconds=30)
        before = await server.publish("broadcast", "tick", "before")
        await eventually(lambda: all_have(f"id: {before}\n"), seconds=30)
        others: set[int] = set()
        for _ in range(requests // 10):
            others.update(connection.get("/health/live", authority=authority) for _ in range(10))
            await eventually(lambda: others <= connection.ended, seconds=30)
        after = await server.publish("broadcast", "tick", "after")
        await eventually(lambda: all_have(f"id: {after}\n"), seconds=30)
        assert connection.ended == others
        assert len(others) == requests
        assert set(connection.statuses.values()) == {"200"}
        assert not connection.is_ending
        assert server.resources.hub.streams == STREAMS
    # The client has left, which nginx tells.
    await eventually(lambda: server.resources.hub.streams == 0)


async def test_a_web_socket_passes(server: Served, nginx: Nginx) -> None:
    address = nginx.url("/api/v1/events/socket", scheme="wss")
    origin = {"Origin": nginx.url("")}
    async with connect(address, ssl=nginx.tls, additional_headers=origin) as connection:
        while "id" not in await connection.recv():
            pass
        published = await server.publish("broadcast", "tick", 1)
        assert published in str(await connection.recv())
    with pytest.raises(InvalidStatus) as refused:
        async with connect(address, ssl=nginx.tls, additional_headers={"Origin": "https://evil.example"}):
            pass
    assert refused.value.response.status_code == 403


async def test_ten_event_sources_of_a_page_share_a_connection(server: Served, nginx: Nginx, tmp_path: Path) -> None:
    """Over HTTP/1.1 a browser opens six connections to a host at the most, and further streams wait."""
    async with opened_page(nginx.url("/docs"), profile=tmp_path / "profile") as page:
        await page.evaluate(
            """() => {
                window.heard = 0
                for (let number = 0; number < 10; number++)
                    new EventSource("/api/v1/events").addEventListener("tick", () => { window.heard += 1 })
            }"""
        )
        await eventually(lambda: server.resources.hub.streams == 10)

        async def have_heard() -> bool:
            await server.publish("broadcast", "tick", 1)
            return bool(await page.evaluate("window.heard") >= 10)

        await eventually(have_heard)
    await eventually(lambda: server.resources.hub.streams == 0)
    streams = [connection for connection, _, _, path, *_ in nginx.log() if path == "/api/v1/events"]
    assert len(streams) == 10
    assert len(set(streams)) == 1


async def test_an_address_has_limits_that_are_shipped(tmp_path: Path) -> None:
    """Before a node that accepts and never answers: requests that wait, then more than a second may have."""
    with socket.create_server(("127.0.0.1", free_port()), backlog=1024) as silent:
        nginx = Nginx(tmp_path, nodes=[silent.getsockname()[1]], limits=True)
        process = nginx.start()
        authority = f"127.0.0.1:{nginx.port}"
        try:
            async with connected(nginx.port, nginx.tls) as first, connected(nginx.port, nginx.tls) as second:
                for connection in (first, second):
                    for _ in range(200):
                        connection.get("/docs", authority=authority)
                await eventually(lambda: len(first.statuses) + len(second.statuses) == 100, seconds=30)
                assert {*first.statuses.values(), *second.statuses.values()} == {"429"}
            silent.close()
            async with connected(nginx.port, nginx.tls) as connection:

                def is_refused() -> bool:
                    for _ in range(200):
                        connection.get("/docs", authority=authority)
                    return "429" in connection.statuses.values()

                await eventually(is_refused, seconds=30)
            async with httpx.AsyncClient(verify=nginx.tls) as client:
                answer = await client.post(nginx.url("/api/v1/login"), content=b"x" * (1 << 20 | 1))
                assert answer.status_code == 413
        finally:
            end(process)
