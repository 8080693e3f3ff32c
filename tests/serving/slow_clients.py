"""Many clients of one server that send a byte a second, or read nothing; and one beside them that does neither."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
ASK = LIVE + b"Connection: close\r\n\r\n"
# A client in a process of its own: the loop of the caller is busy with the slow ones.
ASKING = """
import json, socket, sys, time
took = []
for _ in range(int(sys.argv[3])):
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
        client.sendall(sys.argv[2].encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    took.append(time.perf_counter() - began)
print(json.dumps(sorted(took)))
"""
JSON = b"Content-Type: application/json\r\n\r\n"
# Their answers are more than what the kernel and the server hold for one connection.
PIPELINED = 400


@asynccontextmanager
async def slow_clients(port: int, *, heads: int, bodies: int, streams: int) -> AsyncIterator[list[bytes]]:
    """Heads and bodies that trickle, and answers that are not read; at the end, what the first two were answered.

    The block is left when the server has ended those that send.
    """
    ended: list[bytes] = []
    room = asyncio.Semaphore(100)
    slow = [b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] * heads
    slow += [b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n" + JSON] * bodies
    clients = [asyncio.create_task(_trickle(port, head, ended, room)) for head in slow]
    gone = asyncio.Event()
    clients += [asyncio.create_task(_unread(port, room, gone)) for _ in range(streams)]
    try:
        yield ended
    finally:
        gone.set()
        await asyncio.gather(*clients)


async def times_of_others(port: int, amount: int = 100) -> list[float]:
    """How long so many requests took, one after the other, in seconds, the quickest first. Each is answered 200."""
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASKING, str(port), ASK.decode(), str(amount), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asking.communicate()
    times: list[float] = json.loads(printed)
    return times


async def _trickle(port: int, head: bytes, ended: list[bytes], room: asyncio.Semaphore) -> None:
    """A byte a second, until the server has enough."""
    async with room:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    answer = asyncio.ensure_future(reader.read())
    with suppress(OSError):
        while not answer.done():
            writer.write(b"a")
            await asyncio.wait({answer}, timeout=1)
        ended.append(await answer)
    writer.close()


async def _unread(port: int, room: asyncio.Semaphore, gone: asyncio.Event) -> None:
    """Pipelines requests and reads no answer, also when the server has gone."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    loop = asyncio.get_running_loop()
    with client:
        async with room:
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, b"GET /static/docs.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * PIPELINED)
        await gone.wait()
