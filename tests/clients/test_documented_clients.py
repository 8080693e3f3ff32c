"""The examples of docs/events_clients.md, as they stand there, at the served application."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page
from quart import Response

from app.kit.events import sse
from app.kit.events.publisher import Publisher
from tests.clients.chromium import opened_page
from tests.commands import ROOT
from tests.domain.client import Client
from tests.served import Served
from tests.waiting import eventually

DOCUMENT = (ROOT / "docs" / "events_clients.md").read_text()


def example(section: str, language: str) -> str:
    """The only example in this language of a section."""
    [text] = re.findall(rf"^## {re.escape(section)}$(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "RETRY_MS", (50, 100))


@pytest.fixture
async def page(server: Served, tmp_path: Path) -> AsyncIterator[Page]:
    """A page of the server with the two scripts, each a file of its own."""
    html = example("A page: EventSource", "html").replace("news.js", "{}.js")
    scripts = {"news": example("A page: EventSource", "js"), "socket": example("WebSocket", "js")}
    for name, code in scripts.items():
        for path, body, kind in (
            (f"/{name}", f"<!doctype html>{html.format(name)}", "text/html"),
            (f"/static/{name}.js", code, "text/javascript"),
        ):
            serve = serving(body, kind)
            server.app.add_url_rule(path, path, serve)
    async with opened_page(server.url("/news"), profile=tmp_path / "profile") as page:
        yield page


def serving(body: str, kind: str) -> Any:
    async def view() -> Response:
        return Response(body, content_type=f"{kind}; charset=utf-8")

    return view


async def test_the_page_shows_events_under_the_content_security_policy(
    server: Served, publisher: Publisher, page: Page
) -> None:
    async def shows_some() -> bool:
        await publisher.publish("broadcast", "article_created", {"title": "<b>bold</b>"})
        return bool(await page.locator("#news li").count())

    await eventually(shows_some)
    assert await page.locator("#news li").first.text_content() == "<b>bold</b>"


async def test_the_web_socket_of_a_page_resumes(server: Served, publisher: Publisher, page: Page) -> None:
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text))
    await page.goto(server.url("/socket"))

    async def is_heard() -> bool:
        await publisher.publish("broadcast", "tick", "ready")
        return "tick ready" in printed

    await eventually(is_heard)
    await server.stop()
    for number in range(3):
        await publisher.publish("broadcast", "tick", number)
    await server.start()
    await eventually(lambda: "tick 2" in printed)
    assert [text for text in printed if text in ("tick 0", "tick 1", "tick 2")] == ["tick 0", "tick 1", "tick 2"]


async def test_the_httpx_sse_client_resumes(
    server: Served, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(example("Python: httpx-sse", "python"), "events_clients.md", "exec"), namespace)  # noqa: S102
    user = await (await Client(server.app).registered()).by_api_key()
    listening = asyncio.create_task(namespace["listen"](server.url(), user.headers["API-Key"]))
    await eventually(lambda: server.resources.hub.streams == 1)
    printed = ""

    async def has_printed(text: str) -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return text in printed

    async def is_heard() -> bool:
        await publisher.publish(f"user:{user.user_id}", "tick", "ready")
        return await has_printed('"ready"')

    await eventually(is_heard)
    await server.stop()
    ids = [await publisher.publish(f"user:{user.user_id}", "tick", f"number {number}") for number in range(3)]
    await server.start()
    await eventually(lambda: has_printed("number 2"))
    assert [printed.count(f"number {number}") for number in range(len(ids))] == [1, 1, 1]
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening
