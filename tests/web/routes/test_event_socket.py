"""The WebSocket of events, under the real server and read by a client library of its own."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.domain.users.service import set_roles
from app.web.routes import event_socket
from app.web.routes.event_socket import SUBPROTOCOL
from tests.domain.client import Client
from tests.served import SERVER, Served
from tests.waiting import eventually


@pytest.fixture
def served_settings() -> dict[str, str]:
    return {"MAX_STREAMS": "3"}


def url(server: Served, query: str = "") -> str:
    return server.url(f"/api/v1/events/socket?{query}", scheme="ws")


@dataclass
class Reader:
    """Reads one WebSocket to its end."""

    connection: ClientConnection
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def read(self) -> None:
        try:
            async for text in self.connection:
                self.messages.append(json.loads(text))
        except ConnectionClosed:
            pass

    @property
    def events(self) -> list[tuple[str, Any]]:
        return [(each["id"], each["data"]) for each in self.messages if each.get("type", "live") != "live"]

    @property
    def is_live(self) -> bool:
        return any("id" in message for message in self.messages)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Reader]:
    """A WebSocket that gets every event from now on."""
    async with connect(url, **options) as connection:
        reader = Reader(connection)
        reading = asyncio.create_task(reader.read())
        await eventually(lambda: reader.is_live)
        yield reader
        await connection.close()
        await reading


async def assert_refused(status: int, url: str, **options: Any) -> None:
    """The handshake is answered with problem details; Granian's answer is always 403, and has no body."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, **options):
            pass
    answer = caught.value.response
    if SERVER == "granian":
        assert (answer.status_code, answer.body) == (403, b"")
        return
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body or b"")["status"] == answer.status_code == status


async def test_events_have_the_ids_and_the_members_that_a_stream_has(server: Served) -> None:
    async with (
        opened(url(server)) as reader,
        httpx.AsyncClient() as client,
        client.stream("GET", server.url()) as stream,
    ):
        chunks = stream.aiter_text()
        text = await anext(chunks)
        # From its first id on a stream has every event.
        while "\nid: " not in text:
            text += await anext(chunks)
        published = await server.publish("broadcast", "tick", {"text": "a\nb\u2028c"})
        await eventually(lambda: reader.events)
        while not text.partition(published)[2].endswith("\n\n"):
            text += await anext(chunks)
        [data] = [line for line in text.partition(published)[2].split("\n") if line.startswith("data: ")]
        assert reader.messages[-1] == {"id": published, **json.loads(data.removeprefix("data: "))}


async def test_a_heartbeat_and_the_pause_come_at_once(server: Served) -> None:
    async with opened(url(server)) as reader:
        assert reader.messages[0] == {}
        assert reader.messages[1].keys() == {"retry"}


async def test_it_resumes_after_the_last_event_id(server: Served) -> None:
    ids = [await server.publish("broadcast", "tick", number) for number in range(5)]
    async with opened(url(server, f"last_event_id={ids[1]}")) as reader:
        await eventually(lambda: [event_id for event_id, _ in reader.events] == ids[2:])
    async with opened(url(server, "last_event_id=junk")) as reader:
        assert reader.events == []


@pytest.mark.parametrize(
    ("offered", "answered"), [([SUBPROTOCOL], SUBPROTOCOL), (["other", SUBPROTOCOL], SUBPROTOCOL), (None, None)]
)
async def test_the_subprotocol_is_agreed(server: Served, offered: Any, answered: str | None) -> None:
    async with connect(url(server), subprotocols=offered) as connection:
        assert connection.subprotocol == answered


async def test_another_subprotocol_is_refused(server: Served) -> None:
    await assert_refused(400, url(server), subprotocols=["other"])
    assert server.resources.hub.streams == 0


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
async def test_another_origin_is_refused(server: Served, origin: str) -> None:
    await assert_refused(403, url(server), additional_headers={"Origin": origin})


async def test_the_own_origin_is_let_in(server: Served) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    async with opened(url(server), additional_headers={"Origin": origin, "Cookie": "quartet=junk"}) as reader:
        assert reader.is_live


async def test_a_cookie_without_an_origin_is_refused(server: Served) -> None:
    await assert_refused(403, url(server), additional_headers={"Cookie": "quartet=junk"})


async def test_another_host_is_refused(server: Served) -> None:
    options = {"host": "127.0.0.1", "port": server.port}
    await assert_refused(400, "ws://evil.example/api/v1/events/socket", **options)


@pytest.mark.parametrize(("query", "status"), [("channel=user:1", 401), ("channel=user:*", 401), ("channel=A", 422)])
async def test_a_visitor_hears_the_broadcast_alone(server: Served, query: str, status: int) -> None:
    await assert_refused(status, url(server, query))
    await assert_refused(status, url(server, f"channel=broadcast&{query}"))


async def test_too_many_channels_are_refused(server: Served) -> None:
    user_id = await Client(server.app).register()
    await set_roles(server.resources, user_id, ["admin"])
    user = await Client(server.app).signed_in()
    query = "&".join(f"channel=c{number}" for number in range(40))
    await assert_refused(422, url(server, query), additional_headers=user.headers)


async def test_a_user_hears_their_own_channel(server: Served) -> None:
    user = await Client(server.app).registered()
    key = await user.by_api_key()
    # A header's credential is no browser's: the origin does not matter.
    headers = {**key.headers, "Origin": "http://elsewhere.example"}
    async with opened(url(server), additional_headers=headers) as reader:
        event_id = await server.publish(f"user:{user.user_id}", "tick", 1)
        await eventually(lambda: reader.events == [(event_id, 1)])
    await assert_refused(403, url(server, f"channel=user:{user.user_id + 1}"), additional_headers=user.headers)
    await assert_refused(401, url(server), additional_headers={"API-Key": "junk"})
    await assert_refused(400, url(server), additional_headers={**user.headers, **key.headers})


async def test_a_logout_ends_it(server: Served) -> None:
    user = await Client(server.app).registered()
    async with opened(url(server), additional_headers=user.headers) as reader, opened(url(server)) as visitor:
        assert (await user.post("/logout")).status_code < 400
        await eventually(lambda: reader.connection.close_code == event_socket.TRY_AGAIN_LATER)
        assert visitor.connection.close_code is None
    await assert_refused(401, url(server), additional_headers=user.headers)


async def test_a_drain_closes_with_going_away_after_the_pause(server: Served) -> None:
    async with opened(url(server)) as reader:
        event_id = await server.publish("broadcast", "tick", 1)
        await eventually(lambda: reader.events == [(event_id, 1)])
        await server.resources.hub.drain(0.1)
        await eventually(lambda: reader.connection.close_code == event_socket.GOING_AWAY)
        await eventually(lambda: reader.messages[-1].keys() == {"retry"})


async def test_beyond_the_cap_it_is_to_be_tried_again(server: Served) -> None:
    async with opened(url(server)), opened(url(server)), opened(url(server)), connect(url(server)) as refused:
        reader = Reader(refused)
        await reader.read()
        assert refused.close_code == event_socket.TRY_AGAIN_LATER
        assert [message.keys() for message in reader.messages] == [{"retry"}]


@pytest.mark.parametrize("message", ["text", b"bytes", "", b""])
async def test_a_message_of_the_client_is_refused(server: Served, message: str | bytes) -> None:
    async with opened(url(server)) as reader:
        await reader.connection.send(message)
        await eventually(lambda: reader.connection.close_code == event_socket.POLICY_VIOLATION)
    await eventually(lambda: server.resources.hub.streams == 0)


async def test_a_client_that_goes_away_is_forgotten(server: Served) -> None:
    async with opened(url(server)), opened(url(server)) as second:
        assert server.resources.hub.streams == 2
        second.connection.transport.abort()
        await eventually(lambda: server.resources.hub.streams == 1)
    await eventually(lambda: server.resources.hub.streams == 0)


@pytest.mark.skipif(SERVER != "ours", reason="the other servers do not bound what the kernel buffers")
async def test_a_client_that_reads_nothing_is_evicted_and_delays_no_other(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_socket, "SEND_SECONDS", 0.5)
    stalled = socket.socket()
    # Before the connection is made: the kernel then announces a small window.
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.connect(("127.0.0.1", server.port))
    with stalled:
        stalled.sendall(
            b"GET /api/v1/events/socket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        async with opened(url(server)) as reader:
            await eventually(lambda: server.resources.hub.streams == 2)
            ids = []
            for number in range(40):
                ids.append(await server.publish("broadcast", "tick", [number, "x" * 30_000]))
                await eventually(lambda: [event_id for event_id, _ in reader.events] == ids)
            await eventually(lambda: server.resources.hub.streams == 1)
            assert reader.connection.close_code is None
