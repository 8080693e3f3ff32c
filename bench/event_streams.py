"""What each side of the events' benchmark is put through. Needs no package: peers import it in their environment.

The server is a process of its own, which publishes at a line on its standard input, so that its processor time and its
memory are the server's alone. Each figure is of STREAMS streams, 2,000 where the environment does not say.
"""

import asyncio
import json
import os
import resource
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

STREAMS = int(os.environ.get("STREAMS", "2000"))
EVENTS = 20
# Ends each event's text, and is nowhere else in a stream.
MARK = "~"
TEXT = "x" * 100 + MARK
# So many connections are made at once.
CONNECTING = 100
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024


def raise_file_limit() -> None:
    """As many open files as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def obey(publish: Callable[[], Awaitable[object]]) -> None:
    """In the server: publish as many events at once as each line of standard input says; returns at its end."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        await asyncio.gather(*(publish() for _ in range(int(line))))


class Client(asyncio.Protocol):
    """One stream: counts the events, and notes when each write came."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.began = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        request = f"GET {self.load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
        transport.write(request.encode())

    def data_received(self, data: bytes) -> None:
        if not self.began and self.load.mark_of_begin in data:
            self.began = True
            self.load.begun += 1
        events = data.count(MARK.encode())
        if events:
            self.load.received += events
            self.load.arrivals.append(time.perf_counter())


class Load:
    """The streams of one server, and what it spends on them."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, path: str, mark_of_begin: bytes) -> None:
        self.process, self.port, self.path, self.mark_of_begin = process, port, path, mark_of_begin
        self.begun = self.received = 0
        self.arrivals: list[float] = []

    async def measure(self) -> dict[str, float]:
        await self._until_listening()
        figures = await self._connect()
        figures |= await self._deliver_singly()
        figures |= await self._deliver_burst()
        return figures

    async def _until_listening(self) -> None:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            await asyncio.sleep(0.02)

    async def _connect(self) -> dict[str, float]:
        kib, cpu, began = self._kib(), self._cpu_seconds(), time.perf_counter()
        loop = asyncio.get_running_loop()
        for opened in range(0, STREAMS, CONNECTING):
            count = min(CONNECTING, STREAMS - opened)
            connecting = (loop.create_connection(lambda: Client(self), "127.0.0.1", self.port) for _ in range(count))
            await asyncio.gather(*connecting)
            await self._until(partial(self._have_begun, opened + count))
        wall, spent = time.perf_counter() - began, self._cpu_seconds() - cpu
        # The first event is not measured.
        await self._publish(1)
        return {
            "connect, µs a stream": wall / STREAMS * 1e6,
            "connect, CPU µs a stream": spent / STREAMS * 1e6,
            "memory, KiB a stream": (self._kib() - kib) / STREAMS,
        }

    def _have_begun(self, streams: int) -> bool:
        return self.begun >= streams

    async def _deliver_singly(self) -> dict[str, float]:
        cpu, began = self._cpu_seconds(), time.perf_counter()
        delays: list[float] = []
        for _ in range(EVENTS):
            published = time.perf_counter()
            await self._publish(1)
            delays += [arrival - published for arrival in self.arrivals]
        wall, spent = time.perf_counter() - began, self._cpu_seconds() - cpu
        percentiles = statistics.quantiles(delays, n=100)
        return {
            "single, CPU µs a delivery": spent / EVENTS / STREAMS * 1e6,
            "single, ms to all": wall / EVENTS * 1e3,
            "single, ms p50": percentiles[49] * 1e3,
            "single, ms p99": percentiles[98] * 1e3,
            "20 singles, ms": wall * 1e3,
        }

    async def _deliver_burst(self) -> dict[str, float]:
        cpu, began = self._cpu_seconds(), time.perf_counter()
        await self._publish(EVENTS)
        wall, spent = time.perf_counter() - began, self._cpu_seconds() - cpu
        return {"burst of 20, CPU µs a delivery": spent / EVENTS / STREAMS * 1e6, "burst of 20, ms": wall * 1e3}

    async def _publish(self, events: int) -> None:
        """Until every stream has received them all."""
        self.received = 0
        self.arrivals = []
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d\n" % events)
        await self._until(lambda: self.received >= events * STREAMS)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not condition():  # noqa: ASYNC110  a client that set an event would cost the streams' time
                await asyncio.sleep(0.001)

    def _cpu_seconds(self) -> float:
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def _kib(self) -> float:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE_KIB


def print_figures(server: str, *, path: str = "/events", mark_of_begin: bytes = b":") -> None:
    """Print, as JSON, the figures of the server, a module that serves at 127.0.0.1:PORT.

    A stream that has sent `mark_of_begin` gets every event from then on.
    """
    print(json.dumps(asyncio.run(_figures(server, path, mark_of_begin))))


async def _figures(server: str, path: str, mark_of_begin: bytes) -> dict[str, float]:
    raise_file_limit()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**os.environ, "PORT": str(port), "BIND": f"127.0.0.1:{port}"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", server, env=environ, stdin=pipe, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        return await Load(process, port, path, mark_of_begin).measure()
    finally:
        process.kill()
        await process.wait()
