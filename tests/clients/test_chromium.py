"""Chromium's EventSource and WebSocket, on a page of the application and so under its content security policy."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page
from quart import Quart, Response, request

from app.kit.events import sse
from app.kit.events.publisher import Publisher
from tests.clients.chromium import opened_page
from tests.clients.restarts import Heard, is_ready, while_restarting
from tests.kit.events.sse_format import CASES
from tests.served import Served, served
from tests.waiting import eventually

LISTEN = """() => {
    window.opened = 0
    window.heard = []
    const source = new EventSource("/api/v1/events")
    source.onopen = () => { window.opened += 1 }
    const note = (event) => window.heard.push([event.lastEventId, JSON.parse(event.data).data])
    source.addEventListener("tick", note)
    source.addEventListener("resync", note)
    source.onmessage = () => window.heard.push(["an event without its type"])
}"""

# Every event of a stream, to its end; the first event that says the stream has ended closes the source.
DISPATCHED = """([path, types]) => new Promise((resolve) => {
    const seen = []
    const source = new EventSource(path)
    for (const type of types)
        source.addEventListener(type, (event) => seen.push([event.type, event.data, event.lastEventId]))
    source.onerror = () => { source.close(); resolve(seen) }
})"""

SOCKET = """(url) => new Promise((resolve) => {
    const socket = new WebSocket(url, "quartet.events.v1")
    const seen = []
    socket.onmessage = (event) => {
        const message = JSON.parse(event.data)
        if (message.type) socket.close(1000, "enough")
        seen.push(message)
    }
    socket.onclose = () => resolve([socket.protocol, seen])
})"""


@pytest.fixture
async def page(server: Served, tmp_path: Path) -> AsyncIterator[Page]:
    async with opened_page(server.url("/docs"), profile=tmp_path / "profile") as page:
        yield page


async def test_an_event_source_resumes_after_a_restart(
    server: Served, publisher: Publisher, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "RETRY_MS", (50, 100))
    await page.evaluate(LISTEN)

    async def heard() -> list[Heard]:
        return [tuple(event) for event in await page.evaluate("window.heard")]

    await eventually(lambda: is_ready(publisher, heard))
    await while_restarting(server, publisher, heard)
    assert await page.evaluate("window.opened") >= 3


async def test_an_event_source_waits_as_long_as_the_stream_says(tmp_path: Path) -> None:
    app = Quart(__name__)
    seen: list[str | None] = []

    @app.get("/")
    async def blank() -> str:
        return "<!doctype html>"

    @app.get("/stream")
    async def stream() -> Response:
        seen.append(request.headers.get("Last-Event-ID"))
        return Response(b"retry: 1\n\nid: %d\n\n" % len(seen), content_type="text/event-stream")

    async with served(app) as port, opened_page(f"http://127.0.0.1:{port}/", profile=tmp_path / "profile") as page:
        await page.evaluate("() => { new EventSource('/stream') }")
        # By its own choice it would have come back after 3 s each time.
        await eventually(lambda: len(seen) >= 12, seconds=20)
    assert seen[:12] == [None, *map(str, range(1, 12))]


async def test_an_event_source_dispatches_what_was_encoded(tmp_path: Path) -> None:
    app = Quart(__name__)

    @app.get("/")
    async def blank() -> str:
        return "<!doctype html>"

    @app.get("/<int:number>")
    async def stream(number: int) -> Response:
        return Response(CASES[number].encoded, content_type="text/event-stream")

    async with served(app) as port, opened_page(f"http://127.0.0.1:{port}/", profile=tmp_path / "profile") as page:
        for number, case in enumerate(CASES):
            types = sorted({"message", *(type for type, _, _ in case.dispatched)})
            found: list[Any] = await page.evaluate(DISPATCHED, [f"/{number}", types])
            assert [tuple(event) for event in found] == case.dispatched, case.name


async def test_a_web_socket_of_the_own_page_hears_events(server: Served, publisher: Publisher, page: Page) -> None:
    event_id = await publisher.publish("broadcast", "tick", 1)
    path = "/api/v1/events/socket?last_event_id="
    await publisher.publish("broadcast", "tick", 2)
    protocol, messages = await page.evaluate(SOCKET, server.url(path + event_id, scheme="ws"))
    assert protocol == "quartet.events.v1"
    assert [message["data"] for message in messages if "type" in message] == [2]


async def test_a_web_socket_of_another_site_is_refused(server: Served, tmp_path: Path) -> None:
    other = Quart(__name__)

    @other.get("/")
    async def blank() -> str:
        return "<!doctype html>"

    async with served(other) as port, opened_page(f"http://localhost:{port}/", profile=tmp_path / "profile") as page:
        assert await page.evaluate(SOCKET, server.url("/api/v1/events/socket", scheme="ws")) == ["", []]
