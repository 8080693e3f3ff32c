"""How a worker stops, in which order, and that no client delays it."""

import asyncio
import re
from contextlib import AsyncExitStack

import pytest

from app.serving.limits import Limits
from tests.http.wire import converse
from tests.serving.application import HEAD, Application, connected, ours
from tests.waiting import eventually

# A bound of the tests' servers (graceful_timeout 0.3 s), with room for a loaded machine.
BOUND_SECONDS = 20.0
ASK = b"GET /" + HEAD + b"Connection: close\r\n\r\n"


async def test_what_is_under_way_is_finished_and_told_that_its_connection_closes() -> None:
    app = Application()
    stopping = asyncio.Event()

    async def drain() -> None:
        stopping.set()
        app.release.set()
        await asyncio.sleep(0)

    async with ours(app, drain=drain) as port:
        answer = asyncio.create_task(converse(port, b"GET /slow" + HEAD + b"\r\n"))
        await eventually(lambda: app.waiting == 1)
    assert stopping.is_set()
    assert (await answer).statuses == [200]
    assert (await answer).responses[0][1][b"connection"] == b"close"


async def test_a_request_on_an_idle_connection_is_answered_while_streams_drain() -> None:
    app = Application()
    draining, answered = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        draining.set()
        await answered.wait()

    async with ours(app, drain=drain) as port:
        client = asyncio.create_task(_ask_twice(port, draining, answered))
        await eventually(lambda: app.answered == 1)
    assert b"connection: close" in (await client).lower()


async def _ask_twice(port: int, draining: asyncio.Event, answered: asyncio.Event) -> bytes:
    """The second answer, to a request of the time when streams drain."""
    async with connected(port) as (reader, writer):
        writer.write(b"GET /" + HEAD + b"\r\n")
        await reader.readuntil(b"ok")
        await draining.wait()
        writer.write(b"GET /" + HEAD + b"\r\n")
        answer = await reader.read()
        answered.set()
        return answer


async def test_a_client_that_does_not_read_does_not_delay_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    app = Application()
    app.chunk = b"x" * 100_000
    async with AsyncExitStack() as clients:
        async with ours(app) as port:
            for _ in range(5):
                _, writer = await clients.enter_async_context(connected(port))
                writer.write(b"GET /stream" + HEAD + b"\r\n")
            await eventually(lambda: app.streams == 5)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < BOUND_SECONDS
        assert app.streams == 0
    assert [record for record in caplog.records if record.exc_info] == []


async def test_the_order_of_a_stop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "app.serving.worker")
    order: list[str] = []
    app = Application()
    app.note = order.append

    async def drain() -> None:
        order.append("drain")

    async with ours(app, drain=drain, unready=lambda: order.append("unready"), readiness_delay_seconds=0.3) as port:
        probe = asyncio.create_task(_probe(port, order))
        await eventually(lambda: order)
    await probe
    assert order == ["ready", "unready", "served while unready", "drain", "shutdown"]
    steps = [re.sub(r"\d+\.\d\d s$", "", record.getMessage()) for record in caplog.records]
    assert steps == [
        "stop: waited, so that balancers see that this node is not ready, ",
        "stop: stopped accepting, and drained, ",
        "stop: finished requests, ",
        "stop: stopped the application, ",
    ]


async def _probe(port: int, order: list[str]) -> None:
    order.append("ready")
    await eventually(lambda: "unready" in order)
    assert (await converse(port, ASK)).statuses == [200]
    order.append("served while unready")


async def test_connections_beyond_the_limit_are_503_and_room_is_made_when_one_ends() -> None:
    async with ours(Application(), limits=Limits(connections=2)) as port, connected(port):
        async with connected(port):
            await eventually(lambda: _is_answered(port, 503))
            answer = await converse(port, ASK)
            assert answer.responses[0][1][b"retry-after"]
        await eventually(lambda: _is_answered(port, 200))


@pytest.mark.parametrize(("trusted", "status"), [((), 503), (("127.0.0.0/8",), 200)])
async def test_connections_of_one_address_are_limited_but_not_those_of_a_trusted_proxy(
    trusted: tuple[str, ...], status: int
) -> None:
    limits = Limits(connections_per_address=1, trusted=trusted)
    async with ours(Application(), limits=limits) as port, connected(port):
        await eventually(lambda: _is_answered(port, status))


async def _is_answered(port: int, status: int) -> bool:
    return (await converse(port, ASK)).statuses == [status]


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_the_stop() -> None:
    app = Application()
    async with AsyncExitStack() as clients:
        async with ours(app) as port:
            _, writer = await clients.enter_async_context(connected(port))
            writer.write(b"GET /stubborn" + HEAD + b"\r\n")
            await eventually(lambda: app.waiting == 1)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < BOUND_SECONDS
        assert app.waiting == 1
    app.release.set()
    await eventually(lambda: app.waiting == 0)
