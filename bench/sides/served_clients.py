"""The clients of served_requests: connections that ask one request after the other, or streams that are read."""

import asyncio
import sys

import uvloop

CONNECTIONS, REQUESTS = 16, 500
STREAMS, DELIVERIES = 50, 400


async def main(port: int, kind: str) -> None:
    amount = CONNECTIONS if kind == "requests" else STREAMS
    opened = [await _opened(port) for _ in range(amount)]
    print("connected", flush=True)
    await asyncio.gather(*((_ask if kind == "requests" else _read)(*pair) for pair in opened))


async def _opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(200):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            # The server is about to start.
            await asyncio.sleep(0.05)
    raise ConnectionRefusedError


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(REQUESTS):
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\nok")
    writer.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    body = await reader.read()
    if body.count(b"event: tick") != DELIVERIES:
        raise RuntimeError("an event is missing")
    writer.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
