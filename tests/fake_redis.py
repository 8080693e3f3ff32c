"""A small server that speaks Redis' protocol (RESP3) and answers what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from app.kit.aio import end_tasks

OK = b"+OK\r\n"
# What a client of ours asks before its first command.
GREETINGS = {
    b"HELLO": b"%2\r\n+proto\r\n:3\r\n+role\r\n+master\r\n",
    b"CLIENT": OK,
    b"SELECT": OK,
    b"AUTH": OK,
    b"PING": b"+PONG\r\n",
}


class Last(bytes):
    """A reply after which the connection is closed."""


# Gets a command's words; gives the bytes of its reply.
Answer = Callable[[list[bytes]], bytes]


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


def array(*items: bytes) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(items)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """Run `serve` for each connection to the port that this gives, until the block ends."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            connections.discard(task)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await end_tasks(list(connections))


@asynccontextmanager
async def fake_redis(answer: Answer) -> AsyncIterator[int]:
    """Answer commands on the port that this gives. Greetings are answered as Redis would."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await read_command(reader):
            reply = GREETINGS.get(words[0].upper()) or answer(words)
            writer.write(reply)
            await writer.drain()
            if isinstance(reply, Last):
                break

    async with serving(serve) as port:
        yield port


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """An array of bulk strings; [] at the end."""
    head = await reader.readline()
    words = []
    for _ in range(int(head[1:] or 0)):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words
