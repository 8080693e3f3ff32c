"""A client of one HTTP/2 connection, for many streams that are open at once.

httpx is of no use here: each of its streams waits for a lock while another reads, so that with open event streams a
new request waits until one of them says something.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset


class Connection:
    """`bodies` and `statuses` by the number of the stream, those that have `ended`, and whether GOAWAY was received."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.statuses: dict[int, str] = {}
        self.ended: set[int] = set()
        self.is_ending = False
        self._reader, self._writer = reader, writer
        self._protocol = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._protocol.initiate_connection()
        self._flush()

    def get(self, path: str, *, authority: str) -> int:
        """Send a request; the number of its stream."""
        number = self._protocol.get_next_available_stream_id()
        headers = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
        self._protocol.send_headers(number, headers, end_stream=True)
        self._flush()
        return number

    async def read(self) -> None:
        """Read until the connection ends."""
        while data := await self._reader.read(65536):
            for event in self._protocol.receive_data(data):
                self._take(event)
            self._flush()

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            # By `header_encoding` names and values are texts, though their type names bytes too.
            headers = {str(name): str(value) for name, value in event.headers}
            self.statuses[event.stream_id] = headers[":status"]
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            self._protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded | StreamReset):
            self.ended.add(event.stream_id)
        elif isinstance(event, ConnectionTerminated):
            self.is_ending = True

    def _flush(self) -> None:
        self._writer.write(self._protocol.data_to_send())


@asynccontextmanager
async def connected(port: int, tls: ssl.SSLContext) -> AsyncIterator[Connection]:
    """A connection to this machine, which is read for the duration of the block."""
    tls.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    connection = Connection(reader, writer)
    reading = asyncio.create_task(connection.read())
    yield connection
    writer.transport.abort()
    await reading
