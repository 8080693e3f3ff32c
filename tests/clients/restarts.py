"""What a client hears while the server restarts."""

from collections.abc import Awaitable, Callable
from typing import Any

from app.kit.events.publisher import Publisher
from tests.served import Served
from tests.waiting import eventually

# What tells that a client is connected: data of events that do not count.
READY = "ready"
# An event's id and its data.
Heard = tuple[str, Any]


async def publish_some(publisher: Publisher, first: int, last: int) -> list[Heard]:
    """Events of type tick for everyone, with these numbers."""
    return [(await publisher.publish("broadcast", "tick", number), number) for number in range(first, last)]


async def while_restarting(server: Served, publisher: Publisher, heard: Callable[[], Awaitable[list[Heard]]]) -> None:
    """The server restarts twice, and the client, which is connected, hears every event from now on once, in order."""
    published: list[Heard] = []

    async def has_last() -> bool:
        return (await heard())[-1:] == published[-1:]

    for first in (0, 10):
        # Some of these are still on their way when the server stops.
        published += await publish_some(publisher, first, first + 3)
        await server.stop()
        published += await publish_some(publisher, first + 3, first + 6)
        await server.start()
        published += await publish_some(publisher, first + 6, first + 9)
        await eventually(has_last, seconds=30)
    assert [event for event in await heard() if event[1] != READY] == published


async def is_ready(publisher: Publisher, heard: Callable[[], Awaitable[list[Heard]]]) -> bool:
    """Whether a client has heard any event; publishes one for it to hear."""
    await publisher.publish("broadcast", "tick", READY)
    return bool(await heard())
