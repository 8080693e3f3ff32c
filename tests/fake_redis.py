"""A small server that speaks Redis' protocol (RESP3) and answers what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

OK = b"+OK\r\n"
# What a client of ours asks before its first command.
GREETINGS = {
    b"HELLO": b"%1\r\n+proto\r\n:3\r\n",
    b"CLIENT": OK,
    b"SELECT": OK,
    b"AUTH": OK,
    b"PING": b"+PONG\r\n",
    b"ROLE": b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
}


class Last(bytes):
    """A reply after which the connection is closed."""


# Gets a command's words; gives the bytes of its reply.
Answer = Callable[[list[bytes]], bytes]


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


def array(*items: bytes) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(items)


@asynccontextmanager
async def fake_redis(answer: Answer) -> AsyncIterator[int]:
    """Serve on the port that it gives, for the duration of the block. Greetings are answered as Redis would."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while words := await _read_command(reader):
                reply = GREETINGS.get(words[0].upper()) or answer(words)
                writer.write(reply)
                await writer.drain()
                if isinstance(reply, Last):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


async def _read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """An array of bulk strings; [] at the end."""
    head = await reader.readline()
    words = []
    for _ in range(int(head[1:] or 0)):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words
