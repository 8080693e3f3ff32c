"""What each side of the events' benchmark is put through. Needs no package: peers import it in their environment.

The server is a process of its own, which publishes at a line on its standard input, so that its processor time and its
memory are the server's alone. Each figure is of STREAMS streams, 2,000 where the environment does not say. The client
reads plain sockets, so that the server is what a delivery waits for.
"""

import json
import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

STREAMS = int(os.environ.get("STREAMS", "2000"))
EVENTS = 20
# Ends each event's text, and is nowhere else in a stream.
MARK = b"~"
TEXT = "x" * 100 + MARK.decode()
# So many connections are made at once, and so many from one address of this machine.
CONNECTING = 100
STREAMS_AN_ADDRESS = 500
PATIENCE_SECONDS = 120
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024


def raise_file_limit() -> None:
    """As many open files as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Load:
    """The streams of one server, and what it spends on them."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, path: str, mark_of_begin: bytes) -> None:
        self.process, self.port, self.mark_of_begin = process, port, mark_of_begin
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
        self.poll = select.epoll()
        self.streams: dict[int, socket.socket] = {}
        self.begun: set[int] = set()
        self.received = 0
        self.arrivals: list[float] = []

    def measure(self) -> dict[str, float]:
        self._warm_up()
        figures = self._connect()
        figures |= self._deliver_singly()
        figures |= self._deliver_burst()
        return figures

    def _warm_up(self) -> None:
        """One stream and one event, after which the server has loaded its code and made its connections."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.streams:
            with suppress(ConnectionRefusedError):
                self._open()
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("the server does not listen")
            time.sleep(0.02)
        self._until(lambda: len(self.begun) == 1)
        self._publish(1)
        self._close()
        time.sleep(1)

    def _connect(self) -> dict[str, float]:
        kib, files, cpu, began = self._kib(), self._files(), self._cpu_seconds(), time.perf_counter()
        for opened in range(0, STREAMS, CONNECTING):
            for _ in range(min(CONNECTING, STREAMS - opened)):
                self._open()
            self._until(lambda: len(self.begun) == len(self.streams))
        wall, spent = time.perf_counter() - began, self._cpu_seconds() - cpu
        # The first event is not measured.
        self._publish(1)
        return {
            "connect, µs a stream": wall / STREAMS * 1e6,
            "connect, CPU µs a stream": spent / STREAMS * 1e6,
            "memory, KiB a stream": (self._kib() - kib) / STREAMS,
            "open files a stream": (self._files() - files) / STREAMS,
        }

    def _deliver_singly(self) -> dict[str, float]:
        cpu = self._cpu_seconds()
        walls: list[float] = []
        delays: list[float] = []
        self._lag_ms()
        for _ in range(EVENTS):
            published = time.perf_counter()
            self._publish(1)
            walls.append(time.perf_counter() - published)
            delays += [arrival - published for arrival in self.arrivals]
        spent = self._cpu_seconds() - cpu
        percentiles = statistics.quantiles(delays, n=100)
        return {
            "single, CPU µs a delivery": spent / EVENTS / STREAMS * 1e6,
            "single, ms to all": statistics.median(walls) * 1e3,
            "single, ms p50": percentiles[49] * 1e3,
            "single, ms p99": percentiles[98] * 1e3,
            "single, ms p99 of the loop's lag": self._lag_ms(),
            "20 singles, ms": sum(walls) * 1e3,
        }

    def _deliver_burst(self) -> dict[str, float]:
        cpu, began = self._cpu_seconds(), time.perf_counter()
        self._publish(EVENTS)
        wall, spent = time.perf_counter() - began, self._cpu_seconds() - cpu
        return {
            "burst of 20, CPU µs a delivery": spent / EVENTS / STREAMS * 1e6,
            "burst of 20, ms": wall * 1e3,
            "burst of 20, ms p99 of the loop's lag": self._lag_ms(),
        }

    def _open(self) -> None:
        # An address has a bound of its own, in ports and in the server's streams.
        address = f"127.0.0.{len(self.streams) // STREAMS_AN_ADDRESS + 1}"
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(address, 0))
        stream.sendall(self.request)
        stream.setblocking(False)
        self.streams[stream.fileno()] = stream
        self.poll.register(stream, select.EPOLLIN)

    def _close(self) -> None:
        for stream in self.streams.values():
            self.poll.unregister(stream)
            stream.close()
        self.streams.clear()
        self.begun.clear()

    def _publish(self, events: int) -> None:
        """Until every stream has received them all."""
        self.received = 0
        self.arrivals = []
        self._say(b"%d" % events)
        self._until(lambda: self.received >= events * len(self.streams))

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            for number, _ in self.poll.poll(1):
                self._read(number)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.begun)} of {len(self.streams)} streams, {self.received} events")

    def _read(self, number: int) -> None:
        data = self.streams[number].recv(1 << 18)
        if not data:
            raise ConnectionError(f"a stream has ended, of {len(self.streams)}")
        if number not in self.begun and self.mark_of_begin in data:
            self.begun.add(number)
        events = data.count(MARK)
        if events:
            self.received += events
            self.arrivals.append(time.perf_counter())

    def _say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def _lag_ms(self) -> float:
        """The 99th percentile since the last call."""
        assert self.process.stdout is not None
        self._say(b"lag")
        return float(self.process.stdout.readline())

    def _cpu_seconds(self) -> float:
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def _kib(self) -> float:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE_KIB

    def _files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def print_figures(server: str, *, path: str = "/events", mark_of_begin: bytes = b"\n:") -> None:
    """Print, as JSON, the figures of the server, a module that serves at 127.0.0.1:PORT.

    A stream that has sent `mark_of_begin` gets every event from then on.
    """
    raise_file_limit()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**os.environ, "PORT": str(port), "BIND": f"127.0.0.1:{port}"}
    with subprocess.Popen(
        [sys.executable, "-m", server], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            print(json.dumps(Load(process, port, path, mark_of_begin).measure()))
        finally:
            process.kill()
