"""Connections are accepted many at a time, whatever the loop does, and when descriptors are short."""

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import pytest
import trustme
import uvloop

from app.serving.acceptor import AT_A_TIME, Acceptor
from app.serving.tls import Certificate
from tests.serving.test_http2 import authority, certificate, opened
from tests.waiting import eventually

T = TypeVar("T")
NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
CLIENTS = 50

__all__ = ["authority", "certificate"]


@contextmanager
def bound() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


class Counted(asyncio.Protocol):
    """Notes the turn of the loop in which it is made."""

    def __init__(self, turn: Callable[[], int], turns: list[int]) -> None:
        self._turn, self._turns = turn, turns

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._turns.append(self._turn())
        transport.close()


class Kept(asyncio.Protocol):
    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)


Listen = Callable[[socket.socket, Callable[[], asyncio.Protocol]], Awaitable[Acceptor | asyncio.Server]]


async def with_acceptor(sock: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> Acceptor:
    acceptor = Acceptor(sock, make_protocol)
    acceptor.start(backlog=CLIENTS)
    return acceptor


async def with_server(sock: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(make_protocol, sock=sock, backlog=CLIENTS)


async def turns_taken(listen: Listen) -> int:
    """The turns of the loop from the first to the last of the connections that wait at once."""
    turn, turns = 0, list[int]()
    with bound() as sock, ExitStack() as clients:
        listening = await listen(sock, lambda: Counted(lambda: turn, turns))
        for _ in range(CLIENTS):
            clients.enter_context(socket.create_connection(sock.getsockname()))
        while len(turns) < CLIENTS:
            await asyncio.sleep(0)
            turn += 1
        closed = listening.close()
        if closed is not None:
            await closed
        await asyncio.sleep(0)
    return max(turns) - min(turns) + 1


def run(new_loop: NewLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 30))


@LOOPS
def test_all_that_wait_are_accepted_at_once(new_loop: NewLoop) -> None:
    assert CLIENTS < AT_A_TIME
    assert run(new_loop, turns_taken(with_acceptor)) <= 2


def test_uvloop_itself_accepts_one_in_a_turn() -> None:
    """Where this fails, its server can take the place of the acceptor."""
    assert run(uvloop.new_event_loop, turns_taken(with_server)) >= CLIENTS


@LOOPS
def test_what_is_accepted_when_the_socket_closes_has_its_protocol(new_loop: NewLoop) -> None:
    async def close_at_once() -> list[asyncio.BaseTransport]:
        made: list[asyncio.BaseTransport] = []
        with bound() as sock, ExitStack() as clients:
            acceptor = Acceptor(sock, lambda: Kept(made))
            acceptor.start(backlog=CLIENTS)
            for _ in range(CLIENTS):
                clients.enter_context(socket.create_connection(sock.getsockname()))
            acceptor._accept()
            assert acceptor.under_way == CLIENTS
            await acceptor.close()
            for transport in made:
                transport.close()
            await asyncio.sleep(0)
        return made

    assert len(run(new_loop, close_at_once())) == CLIENTS


@LOOPS
def test_when_descriptors_are_short_it_waits_and_goes_on(new_loop: NewLoop, caplog: pytest.LogCaptureFixture) -> None:
    run(new_loop, wait_for_a_descriptor(caplog))


async def wait_for_a_descriptor(caplog: pytest.LogCaptureFixture) -> None:
    made: list[asyncio.BaseTransport] = []
    with bound() as sock, bound() as other, ExitStack() as clients:
        acceptor, paused = Acceptor(sock, lambda: Kept(made)), Acceptor(other, lambda: Kept(made))
        for each in (acceptor, paused):
            each.start(backlog=10)
        clients.enter_context(socket.create_connection(sock.getsockname()))
        await eventually(lambda: len(made) == 1)
        addresses = [sock.getsockname(), other.getsockname()]
        for address in addresses:
            clients.enter_context(socket.create_connection(address))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A new descriptor is the lowest that is free.
        lowest = os.dup(sock.fileno())
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with caplog.at_level(logging.WARNING):
                await eventually(lambda: caplog.text.count("accepted for 1.0 s: Too many open files") == 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        # Said once by each, because it does not look again before the pause has passed.
        assert len(caplog.records) == 2
        await paused.close()
        await eventually(lambda: len(made) == 2)
        await acceptor.close()
        for transport in made:
            transport.close()
        for address in addresses:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)


async def test_a_silent_handshake_delays_neither_others_nor_the_end(
    authority: trustme.CA, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.serving.acceptor.AT_A_TIME", 2)
    made: list[asyncio.BaseTransport] = []
    with bound() as sock, ExitStack() as clients:
        acceptor = Acceptor(sock, lambda: Kept(made), tls=certificate.context, handshake_seconds=60)
        acceptor.start(backlog=10)
        for _ in range(5):
            clients.enter_context(socket.create_connection(sock.getsockname()))
        async with opened(authority, sock.getsockname()[1]):
            await eventually(lambda: len(made) == 1)
        assert acceptor.under_way == 5
        # Not the time that a handshake may take.
        async with asyncio.timeout(30):
            await acceptor.close()
