"""Requests as bytes, which an HTTP client would not send, to an application and to a served process."""

import asyncio
import itertools
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from quart import Quart

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RawResponse:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def exchange(
    app: Quart,
    target: bytes,
    *,
    method: str = "GET",
    headers: list[tuple[bytes, bytes]] | None = None,
    host: bytes | None = b"localhost",
    body: bytes = b"",
    client: str = "127.0.0.1",
) -> RawResponse:
    """The response of the application, called as a server calls it."""
    path, _, query = target.partition(b"?")
    given = [] if host is None else [(b"host", host)]
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [*given, *(headers or [])],
        "client": (client, 1),
        "server": ("127.0.0.1", 8000),
        "extensions": {},
    }
    messages: list[Any] = []
    pending: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    ended = asyncio.Event()

    async def receive() -> Any:
        if pending:
            return pending.pop()
        # As the ASGI specification has it; Quart 0.23 waits for this message.
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            ended.set()

    async with asyncio.timeout(30):
        await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in messages[1:])
    return RawResponse(messages[0]["status"], dict(messages[0]["headers"]), content)


def assert_one_shape(response: RawResponse) -> None:
    """Every answer has an id, none is a defect, and each error is problem details (RFC 9457) with that id."""
    assert response.status < 500, response.body
    assert response.headers[b"x-request-id"]
    if response.status >= 400 and response.body:
        assert response.headers[b"content-type"] == b"application/problem+json"
        assert response.json()["request_id"].encode() == response.headers[b"x-request-id"]


@dataclass(frozen=True, slots=True)
class Door:
    """A serving application and its loop. Each request comes from an address of its own, which no limit has counted."""

    app: Quart
    runner: asyncio.Runner
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def send(self, target: bytes, *, has_page: bool = False, **options: Any) -> RawResponse:
        """exchange(), whose answer has the one shape; an error may be a page of the site where `has_page`."""
        number = next(self.numbers)
        client = f"198.18.{number // 250 % 250}.{number % 250 + 1}"
        response = self.run(exchange(self.app, target, **{"client": client, **options}))
        if not (has_page and response.headers.get(b"content-type", b"").startswith(b"text/html")):
            assert_one_shape(response)
        return response
