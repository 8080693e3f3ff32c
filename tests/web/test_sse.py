"""Event streams as HTTP answers."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from quart import Quart, Response, request
from quart.testing import connections
from redis.asyncio import Redis

from app.errors import Invalid
from app.kit.events.hub import Hub
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.web.context import EXTENSION
from app.web.sse import event_stream, last_event_id
from tests.kit.events.event_streams import Parser
from tests.served import served
from tests.waiting import eventually


@pytest.fixture
async def hub(redis: Redis, keys: Keys) -> AsyncIterator[Hub]:
    hub = Hub(redis, keys, max_streams=3, heartbeat_seconds=0.2)
    await hub.start()
    yield hub
    await hub.close()


@pytest.fixture
def publisher(redis: Redis, keys: Keys) -> Publisher:
    return Publisher(redis, keys)


@pytest.fixture
def app(hub: Hub, publisher: Publisher) -> Quart:
    app = Quart(__name__)
    app.config["RESPONSE_TIMEOUT"] = 0.3
    app.extensions[EXTENSION] = SimpleNamespace(hub=hub, publisher=publisher)

    @app.get("/events")
    async def events() -> Response:
        return await event_stream(request.args.getlist("channel") or ["broadcast"], last_event_id=last_event_id())

    @app.errorhandler(Invalid)
    async def invalid(error: Invalid) -> tuple[str, int]:
        return "", error.status

    return app


class Stream(Parser):
    """A streamed answer of the test client."""

    def __init__(self, connection: connections.TestHTTPConnection) -> None:
        super().__init__()
        self.connection = connection
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            self.feed(await self.connection.receive())

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]


@asynccontextmanager
async def opened(app: Quart, path: str = "/events", **headers: str) -> AsyncIterator[Stream]:
    """A stream that is open until the block ends, when the client goes away."""
    connection = app.test_client().request(path, headers={name.replace("_", "-"): headers[name] for name in headers})
    assert isinstance(connection, connections.TestHTTPConnection)
    async with connection:
        stream = Stream(connection)
        await eventually(lambda: stream.comments)
        yield stream
        stream.task.cancel()
        await connection.disconnect()


async def test_headers_and_a_comment_come_at_once(app: Quart) -> None:
    async with opened(app) as stream:
        assert stream.connection.status_code == 200
        headers = stream.connection.headers
        assert headers is not None
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert "Content-Length" not in headers


async def test_events_come_for_longer_than_any_other_answer_may_take(app: Quart, publisher: Publisher) -> None:
    async with opened(app) as stream:
        # Two heartbeats are longer than RESPONSE_TIMEOUT.
        await eventually(lambda: stream.comments >= 4)
        published = await publisher.publish("broadcast", "tick", 1)
        await eventually(lambda: stream.ids == [published])


async def test_head_answers_without_a_stream(app: Quart, hub: Hub) -> None:
    response = await asyncio.wait_for(app.test_client().head("/events"), 1)
    assert response.status_code == 200
    assert response.content_type == "text/event-stream; charset=utf-8"
    assert await response.get_data() == b""
    assert hub.streams == 0


async def test_head_leaves_the_length_out_on_the_wire(app: Quart) -> None:
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 200")
        assert b"content-type: text/event-stream; charset=utf-8\r\n" in head
        assert b"content-length" not in head
        writer.close()


async def test_a_client_that_pipelined_and_left_is_noticed_by_the_heartbeats(app: Quart, hub: Hub) -> None:
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request_line = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(request_line)
        await reader.readuntil(b"id: ")
        # Hypercorn reads no further than this, so it does not see the end of the connection.
        writer.write(request_line)
        writer.close()
        await eventually(lambda: hub.streams == 0, seconds=5)


async def test_a_client_that_goes_away_is_forgotten(app: Quart, hub: Hub) -> None:
    async with opened(app), opened(app):
        assert hub.streams == 2
    await eventually(lambda: hub.streams == 0)


async def test_the_header_says_where_to_resume_rather_than_the_query(app: Quart, publisher: Publisher) -> None:
    ids = [await publisher.publish("broadcast", "tick", number) for number in range(4)]
    async with opened(app, f"/events?last_event_id={ids[1]}") as stream:
        await eventually(lambda: stream.ids == ids[2:])
    async with opened(app, f"/events?last_event_id={ids[1]}", Last_Event_ID=ids[2]) as stream:
        await eventually(lambda: stream.ids == ids[3:])


@pytest.mark.parametrize("junk", ["junk", "%00", "1-1-1", "%F0%9F%8E%89", "x" * 4000])
async def test_junk_for_an_id_is_a_fresh_start(app: Quart, publisher: Publisher, junk: str) -> None:
    await publisher.publish("broadcast", "tick", "before")
    async with opened(app, f"/events?last_event_id={junk}") as stream:
        assert stream.connection.status_code == 200
        await eventually(lambda: stream.last_event_id)
        after = await publisher.publish("broadcast", "tick", "after")
        await eventually(lambda: stream.ids == [after])


@pytest.mark.parametrize("query", ["channel=User", "channel=a%20b", "&".join(f"channel=user:{n}" for n in range(33))])
async def test_what_is_no_channel_is_invalid(app: Quart, hub: Hub, query: str) -> None:
    response = await app.test_client().get(f"/events?{query}")
    assert response.status_code == 422
    assert hub.streams == 0


async def test_beyond_the_cap_and_while_draining_it_is_200_with_a_pause(app: Quart, hub: Hub) -> None:
    async with opened(app), opened(app), opened(app):
        await refused(app)
    await hub.drain(0.1)
    await refused(app)


async def refused(app: Quart) -> None:
    response = await asyncio.wait_for(app.test_client().get("/events"), 1)
    assert response.status_code == 200
    parser = Parser()
    parser.feed(await response.get_data(as_text=False))
    assert parser.retry_ms is not None
    assert not parser.last_event_id


async def test_a_connection_that_breaks_frees_its_stream(app: Quart, hub: Hub, publisher: Publisher) -> None:
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"id: ")
        published = await publisher.publish("broadcast", "tick", 1)
        await reader.readuntil(published.encode())
        assert hub.streams == 1
        writer.transport.abort()
        await eventually(lambda: hub.streams == 0)


async def test_draining_lets_the_server_stop_at_once(app: Quart, hub: Hub) -> None:
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"id: ")
        await hub.drain(0.2)
        rest: Any = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 1)
        assert b"retry: " in rest
        writer.close()


async def test_a_client_that_reads_nothing_is_gone_and_the_others_are_served(
    app: Quart, redis: Redis, keys: Keys
) -> None:
    hub = Hub(redis, keys, heartbeat_seconds=1.0)
    await hub.start()
    app.extensions[EXTENSION].hub = hub
    publisher, sent = Publisher(redis, keys), 0
    async with served(app) as port:
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", port))
        stalled.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await eventually(lambda: hub.streams == 2)

        async def gone() -> bool:
            nonlocal sent
            sent += 1
            published = await publisher.publish("broadcast", "tick", "x" * 60_000)
            await reader.readuntil(published.encode())
            return hub.streams == 1

        await eventually(gone)
        stalled.close()
        writer.close()
        await hub.close()
    assert sent > 3
