"""GET requests to an ASGI application in this process, without a server or a socket: scope, receive and send."""

import asyncio
import gc
from collections.abc import Iterable
from typing import Any, cast

from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, HTTPScope
from quart import Quart

from app.serving.engine import GC_THRESHOLDS
from bench.load import print_cost

CALLERS = 64
# What each route answers, as JSON: a page of a list.
RECORDS = [{"id": n, "title": f"Article {n}", "views": n * 7, "keywords": ["a", "b"]} for n in range(20)]

Headers = dict[str, str]


async def print_requests(app: Quart, path: str, *, headers: Headers, status: int) -> None:
    """Print the CPU time in µs of a request by 64 callers at once. RuntimeError for an answer of another status."""

    async def call(_number: int) -> None:
        answered, _ = await get(app, path, headers=headers)
        if answered != status:
            raise RuntimeError(f"{path} answered {answered}, not {status}")

    for _ in range(2 * CALLERS):
        await call(0)
    # As a process that serves: the collector skips what is loaded, and visits the rest less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    await print_cost("CPU, µs a request", call, callers=CALLERS)


async def get(app: Quart, target: str, *, headers: Headers) -> tuple[int, Headers]:
    """The status and the headers of the answer. `target`: the path, and a query if it has one."""
    status, received = 0, Headers()
    requests = [cast(ASGIReceiveEvent, {"type": "http.request", "body": b"", "more_body": False})]

    async def receive() -> ASGIReceiveEvent:
        # After the body, a server reports the client's disconnect, which does not happen here.
        return requests.pop() if requests else await asyncio.get_running_loop().create_future()

    async def send(event: ASGISendEvent) -> None:
        nonlocal status, received
        if event["type"] == "http.response.start":
            status, received = event["status"], _decode(event["headers"])

    await app(_scope(target, headers), receive, send)
    return status, received


def _scope(target: str, headers: Headers) -> HTTPScope:
    path, _, query = target.partition("?")
    sent = {"host": "127.0.0.1", "user-agent": "bench", "accept": "*/*", **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        "extensions": {},
    }
    return cast(HTTPScope, scope)


def _decode(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return {name.decode().lower(): value.decode() for name, value in headers}
