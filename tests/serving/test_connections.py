"""What connections over TLS leave behind, in memory and for the clock."""

import gc
from collections import Counter
from contextlib import AsyncExitStack

import pytest
import trustme

from app.serving.connection import Connection
from app.serving.http1 import RequestStream
from app.serving.http2 import BoundedBuffer, Http2
from app.serving.limits import Limits
from app.serving.listener import Listener
from app.serving.tls import Certificate
from tests.serving.application import Application, ours
from tests.serving.test_http2 import authority, certificate, client, opened
from tests.waiting import eventually

__all__ = ["authority", "certificate"]


KINDS = (Connection, Http2, BoundedBuffer, RequestStream)


def held() -> list[object]:
    """The server's objects of connections and streams that something still refers to."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, KINDS)]


async def test_connections_leave_nothing_in_memory(authority: trustme.CA, certificate: Certificate) -> None:
    """Whether their windows stay closed, they reset what they ask, or they send only priorities."""
    app = Application()
    app.chunk = b"x" * 100_000
    # A server of other tests, whose loop stands still meanwhile, may have some.
    others = {id(each): each for each in held()}

    def left() -> Counter[str]:
        return Counter(type(each).__name__ for each in held() if id(each) not in others)

    async with ours(app, tls=certificate.context, limits=Limits(send_seconds=60)) as port:
        for _ in range(3):
            async with AsyncExitStack() as clients:
                for _ in range(5):
                    stalled = await clients.enter_async_context(client(authority, port, window=0))
                    for _ in range(20):
                        stalled.ask(b"/stream")
                    resetting = await clients.enter_async_context(client(authority, port))
                    for _ in range(50):
                        resetting.h2.reset_stream(resetting.ask(b"/slow"))
                    for stream in range(101, 1001, 2):
                        resetting.h2.prioritize(stream, weight=16, depends_on=0)
                    resetting.flush()
                await eventually(lambda: app.streams == 100)
                # Two chunks for each stream, and no more: what fills the buffer, and what waits for room.
                assert app.written <= 200
                assert left()["BoundedBuffer"] >= 100
            app.release.set()
            await eventually(lambda: app.streams == app.waiting == 0)
            app.written = 0
            await eventually(lambda: not left())


async def test_a_connection_that_closes_twice_can_still_be_looked_at(
    authority: trustme.CA, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TLS transport that is closed twice fails where it is asked what is unsent, as the clock does."""
    opening: list[Connection] = []
    add = Listener.add

    def noting(self: Listener, connection: Connection) -> bool:
        opening.append(connection)
        return add(self, connection)

    monkeypatch.setattr(Listener, "add", noting)
    async with ours(Application(), tls=certificate.context) as port, opened(authority, port):
        await eventually(lambda: opening)
        opening[0].close()
        opening[0].close()
        assert opening[0].transport.get_write_buffer_size() >= 0
