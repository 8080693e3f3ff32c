"""Requests by wrk to an application in a process of its own: whole answers a second, and how long each takes."""

import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.rounds import ROOT, Figures
from tests.services import binary, end, free_port, wait_until_listening

SECONDS = 2
WARM_UP_REQUESTS = 200
# wrk waits so long for an answer, which is longer than any takes.
PATIENCE_SECONDS = 10
START_SECONDS = 60

Headers = dict[str, str]
Answer = tuple[int, Headers, bytes]


@dataclass(frozen=True)
class Request:
    """What is asked again and again. `body`: JSON."""

    method: str
    path: str
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """One of those that are measured: a command that serves at BIND, HOST:PORT; {port} in it stands for the port."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    connections: int
    requests: Callable[[int], Mapping[str, Request]]
    """Checks what is served on that port, and returns what is asked, by name."""
    seconds: int = SECONDS

    def measure(self) -> Figures:
        figures: Figures = {}
        with self._serving() as port:
            for name, request in self.requests(port).items():
                for _ in range(WARM_UP_REQUESTS):
                    ask(port, request)
                for figure, value in self._load(port, request).items():
                    figures[f"{name}: {figure}"] = value
        return figures

    @contextmanager
    def _serving(self) -> Iterator[int]:
        port = free_port()
        command = [word.format(port=port) for word in self.command]
        environ = {**os.environ, **self.environ, "BIND": f"127.0.0.1:{port}"}
        process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            wait_until_listening(port, process)
            _wait_until_it_answers(port)
            yield port
        finally:
            end(process)

    def _load(self, port: int, request: Request) -> Figures:
        """Answers of another status, and those that never come, are errors, and are not counted as answers."""
        options = ["-t", "1", "-c", str(self.connections), "-d", f"{self.seconds}s", "--latency"]
        options += ["--timeout", f"{PATIENCE_SECONDS}s", "-s", str(ROOT / "bench" / "load.lua")]
        for name, value in _sent(request).items():
            options += ["-H", f"{name}: {value}"]
        done = subprocess.run(
            [binary("wrk"), *options, f"http://127.0.0.1:{port}{request.path}"],
            env={**os.environ, "METHOD": request.method, "BODY": request.body},
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        return {
            "requests/s": (found["answers"] - found["refused"]) / found["seconds"],
            "ms, median": found["p50"],
            "ms, p99": found["p99"],
            "errors": found["refused"] + found["broken"],
        }


def ask(port: int, request: Request) -> Answer:
    """RuntimeError for an answer of another status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request(request.method, request.path, request.body or None, _sent(request))
    with connection.getresponse() as response:
        answer = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    if answer[0] != request.status:
        raise RuntimeError(f"{request.method} {request.path} answered {answer}")
    return answer


def _sent(request: Request) -> Headers:
    return {**request.headers, **({"Content-Type": "application/json"} if request.body else {})}


def _wait_until_it_answers(port: int) -> None:
    """A server may listen before its application is there."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", "/cached")
            connection.getresponse().read()
            return
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        finally:
            connection.close()
