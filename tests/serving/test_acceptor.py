"""Connections are accepted many at a time, whatever the loop does, and when descriptors are short."""

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvloop

from app.serving.acceptor import AT_A_TIME, Acceptor
from tests.waiting import eventually

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
CLIENTS = 50


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


Listen = Callable[[socket.socket, Callable[[], asyncio.Protocol]], Awaitable[Acceptor | asyncio.Server]]


async def with_acceptor(sock: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> Acceptor:
    acceptor = Acceptor(sock, make_protocol)
    acceptor.start(backlog=CLIENTS)
    return acceptor


async def with_server(sock: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(make_protocol, sock=sock, backlog=CLIENTS)


def turns_taken(new_loop: Callable[[], asyncio.AbstractEventLoop], listen: Listen) -> int:
    """The turns of the loop from the first to the last of the connections that wait at once."""
    turn, turns = 0, list[int]()

    async def accept_all() -> None:
        nonlocal turn
        with bound() as sock, ExitStack() as clients:
            listening = await listen(sock, lambda: Counted(lambda: turn, turns))
            for _ in range(CLIENTS):
                clients.enter_context(socket.create_connection(sock.getsockname()))
            while len(turns) < CLIENTS:
                await asyncio.sleep(0)
                turn += 1
            listening.close()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(accept_all(), 30))
    return max(turns) - min(turns) + 1


@LOOPS
def test_all_that_wait_are_accepted_at_once(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    assert CLIENTS < AT_A_TIME
    assert turns_taken(new_loop, with_acceptor) <= 2


def test_uvloop_itself_accepts_one_in_a_turn() -> None:
    """Where this fails, its server can take the place of the acceptor."""
    assert turns_taken(uvloop.new_event_loop, with_server) >= CLIENTS


async def test_when_descriptors_are_short_it_waits_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[asyncio.BaseTransport] = []

    class Kept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    with bound() as sock, ExitStack() as clients:
        acceptor = Acceptor(sock, Kept)
        acceptor.start(backlog=10)
        clients.enter_context(socket.create_connection(sock.getsockname()))
        await eventually(lambda: len(made) == 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        clients.enter_context(socket.create_connection(sock.getsockname()))
        # A new descriptor is the lowest that is free.
        lowest = os.dup(sock.fileno())
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with caplog.at_level(logging.WARNING):
                await eventually(lambda: "no connection is accepted for 1.0 s: Too many open files" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        # Said once, because it does not look again before the pause has passed.
        assert len(caplog.records) == 1
        await eventually(lambda: len(made) == 2)
        address = sock.getsockname()
        acceptor.close()
        for transport in made:
            transport.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
