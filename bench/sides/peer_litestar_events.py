"""Litestar's Channels and ServerSentEvent on uvicorn, with the backend in memory."""

from collections.abc import AsyncGenerator

from litestar import Litestar, get
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.response import ServerSentEvent, ServerSentEventMessage

from bench.event_streams import TEXT
from bench.uvicorn_server import run

channels = ChannelsPlugin(backend=MemoryChannelsBackend(history=0), channels=["broadcast"])


@get("/events")
async def events() -> ServerSentEvent:
    async def stream() -> AsyncGenerator[ServerSentEventMessage, None]:
        async with channels.start_subscription(["broadcast"]) as subscriber:
            yield ServerSentEventMessage(comment="")
            async for data in subscriber.iter_events():
                yield ServerSentEventMessage(event="tick", data=data.decode())

    return ServerSentEvent(stream())


async def publish() -> None:
    await channels.wait_published(TEXT, ["broadcast"])


if __name__ == "__main__":
    run(Litestar(route_handlers=[events], plugins=[channels], openapi_config=None), publish)
