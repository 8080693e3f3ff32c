"""Bytes to a server and back, and the responses in what came back."""

import asyncio
from dataclasses import dataclass

import h11

SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent until it closed, or until `SECONDS` had passed (`closed` is False then)."""

    responses: list[tuple[int, dict[bytes, bytes], bytes]]
    closed: bool
    raw: bytes

    @property
    def statuses(self) -> list[int]:
        return [status for status, _, _ in self.responses]


async def converse(
    port: int, *parts: bytes, methods: tuple[bytes, ...] = (), half_close: bool = False, seconds: float = SECONDS
) -> Answer:
    """Send `parts`, each when the loop has had a turn, and read until the server closes.

    `methods`: those of the requests, where one is not GET (a response to HEAD has no body).
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)
        if half_close:
            writer.write_eof()
        received, closed = b"", True
        try:
            async with asyncio.timeout(seconds):
                while data := await reader.read(65536):
                    received += data
        except TimeoutError:
            closed = False
        except OSError:
            # A reset, or a pipe that is broken where the last parts were still to be sent.
            pass
    finally:
        writer.close()
    return Answer(parse(received, methods), closed, received)


def parse(received: bytes, methods: tuple[bytes, ...] = ()) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """The final responses in the bytes. h11.RemoteProtocolError where they are none."""
    responses = []
    rest, number = received, 0
    while rest:
        client = h11.Connection(h11.CLIENT)
        method = methods[number] if number < len(methods) else b"GET"
        client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(rest)
        client.receive_data(b"")
        body = b""
        head: h11.Response | None = None
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            elif not isinstance(event, h11.InformationalResponse):
                raise AssertionError(f"no whole response: {rest[:200]!r}")
        assert head is not None
        responses.append((head.status_code, dict(head.headers), body))
        rest = client.trailing_data[0]
        number += 1
    return responses
