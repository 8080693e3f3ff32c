"""Each fault of Hypercorn's HTTP/2 that app/serving/http2.py mends (test_http2.py): plain Hypercorn still has it.

Where a test fails, a newer Hypercorn is right, and what stands in for it can go.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import h2.errors
import pytest

from tests.serving.application import Application, connected
from tests.serving.test_deviations import plain
from tests.serving.test_http2 import Client
from tests.waiting import eventually


@asynccontextmanager
async def client(port: int, *, window: int | None = None) -> AsyncIterator[tuple[Client, "asyncio.Task[None]"]]:
    """A client with prior knowledge, and what is done when its connection has ended."""
    async with connected(port) as (reader, writer):
        made = Client(reader, writer, window=window)
        reading = asyncio.create_task(made.read())
        try:
            yield made, reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})


async def a_body_after_its_answer(made: Client) -> None:
    stream = made.ask(b"/", method=b"POST", ends=False)
    await eventually(lambda: made.status(stream) == 200)
    made.h2.send_data(stream, b"late")


async def a_path_of_raw_utf8(made: Client) -> None:
    made.ask("/é".encode())


async def a_method_of_raw_utf8(made: Client) -> None:
    made.ask(b"/", method="GÉT".encode())


async def a_connect(made: Client) -> None:
    made.ask(b"", method=b"CONNECT")


async def a_thousand_priorities(made: Client) -> None:
    for number in range(1001):
        made.h2.prioritize(2 * number + 1)


ENDED_BY = [a_body_after_its_answer, a_path_of_raw_utf8, a_method_of_raw_utf8, a_connect, a_thousand_priorities]


@pytest.mark.parametrize("act", ENDED_BY, ids=lambda act: act.__name__)
async def test_hypercorn_ends_the_whole_connection(act: Callable[[Client], "asyncio.Future[None]"]) -> None:
    async with plain(Application()) as port, client(port) as (made, reading):
        await act(made)
        made.flush()
        await eventually(reading.done)


async def test_hypercorn_takes_rapid_resets_without_an_end() -> None:
    # Of so many requests ours takes 250.
    async with plain(Application()) as port, client(port) as (made, _):
        for _ in range(300):
            made.h2.reset_stream(made.ask(b"/slow"), h2.errors.ErrorCodes.CANCEL)
            made.flush()
        stream = made.ask(b"/")
        await eventually(lambda: made.status(stream) == 200)


async def test_hypercorn_lets_a_handler_write_on_while_no_window_opens() -> None:
    app = Application()
    app.chunk = bytes(100_000)
    async with plain(app) as port, client(port, window=0) as (made, _):
        made.ask(b"/stream")
        await eventually(lambda: app.written > 50)
