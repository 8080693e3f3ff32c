"""sse-starlette's streams on uvicorn: a queue a client."""

import asyncio
from collections.abc import AsyncGenerator

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from bench.event_streams import TEXT
from bench.uvicorn_server import run

queues: set[asyncio.Queue[dict[str, str]]] = set()


async def events(_: Request) -> EventSourceResponse:
    async def stream() -> AsyncGenerator[dict[str, str], None]:
        queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        queues.add(queue)
        try:
            yield {"comment": ""}
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)

    return EventSourceResponse(stream())


async def publish() -> None:
    for queue in queues:
        queue.put_nowait({"event": "tick", "data": TEXT})


if __name__ == "__main__":
    run(Starlette(routes=[Route("/events", events)]), publish)
