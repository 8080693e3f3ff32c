"""Two nodes behind nginx, on Redis and PostgreSQL, under load: restarted one after the other, and killed."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import make_url

from app.kit.aio import end_tasks
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.kit.tasks.queue import Queue
from tests.commands import environment
from tests.databases import create_postgres
from tests.faults.tasks import short
from tests.kit.tasks.task_worker import info_of
from tests.nginx import Nginx
from tests.services import RedisServer, binary, end, free_port, wait_until_listening
from tests.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.postgres]

CALLERS = 8
# Connections of wrk, which asks on each as fast as it is answered: in the long runs.
WRK_CONNECTIONS = 32
WRK_SCRIPT = Path(__file__).with_name("wrk.lua")
MANY = 500
SIZES = [50, pytest.param(MANY, marks=pytest.mark.long)]


class Node:
    """`quartet serve` as a node of a fleet, always on the same port."""

    def __init__(self, settings: dict[str, str], folder: Path) -> None:
        self.port = free_port()
        self._environ = environment(settings | {"BIND": f"127.0.0.1:{self.port}"})
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.faults.served_tasks"]
        self._process = subprocess.Popen(command, env=self._environ, cwd=self._folder)
        wait_until_listening(self.port, self._process)

    def stop(self, *, with_signal: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(with_signal)
        return self._process.wait(60)

    def end(self) -> None:
        if self._process is not None:
            end(self._process)


@dataclass
class Fleet:
    nodes: list[Node]
    nginx: Nginx
    publisher: Publisher
    queue: Queue


@pytest.fixture
def fleet(
    redis_server: RedisServer, real_redis: Redis, keys: Keys, postgres_template: str, tmp_path: Path
) -> Iterator[Fleet]:
    database = create_postgres(postgres_template, template=str(make_url(postgres_template).database))
    settings = {
        "REDIS_URL": redis_server.url,
        "NAMESPACE": keys.namespace,
        "DATABASE_URL": database,
        "TRUSTED_PROXIES": "127.0.0.1",
        "TASK_LEASE_SECONDS": "3",
        "TASK_GRACE_SECONDS": "2",
        "DRAIN_SECONDS": "0.5",
        "LOG_LEVEL": "warning",
    }
    nodes = [Node(settings, tmp_path) for _ in range(2)]
    nginx = Nginx(tmp_path, nodes=[node.port for node in nodes])
    try:
        for node in nodes:
            node.start()
        process = nginx.start()
        yield Fleet(nodes, nginx, Publisher(real_redis, keys), Queue(real_redis, keys))
        end(process)
    finally:
        for node in nodes:
            node.end()


class Wrk:
    """wrk, until end(); how many of its requests failed, and in which way."""

    def __init__(self, nginx: Nginx) -> None:
        options = ["-t1", f"-c{WRK_CONNECTIONS}", "-d3600s", "--timeout=60s", "-s", str(WRK_SCRIPT)]
        self._process = subprocess.Popen([binary("wrk"), *options, nginx.url("/")], stdout=subprocess.PIPE, text=True)
        self.failed: dict[str, int] = {}
        self.requests = 0

    def end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate(timeout=120)
        self.failed = json.loads(said.splitlines()[-1])
        self.requests = self.failed.pop("requests")
        print(f"wrk: {self.requests} requests, {self.failed}")  # noqa: T201
        del self.failed["longest_ms"]


@dataclass
class Load:
    """Callers and streams through nginx, during a block; with many streams wrk, too."""

    nginx: Nginx
    wrk: Wrk | None = None
    answers: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    received: list[list[int]] = field(default_factory=list)
    connects: int = 0
    stopping: bool = False

    @asynccontextmanager
    async def running(self, *, streams: int) -> AsyncIterator[None]:
        self.received = [[] for _ in range(streams)]
        callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]
        followers = [asyncio.create_task(self._follow(received)) for received in self.received]
        try:
            await eventually(lambda: self.connects == streams and self.answers.total() > CALLERS, seconds=60)
            if streams >= MANY:
                self.wrk = Wrk(self.nginx)
            yield
        finally:
            self.stopping = True
            if self.wrk is not None:
                await asyncio.to_thread(self.wrk.end)
            await asyncio.gather(*callers)
            await end_tasks(followers)

    async def reaches(self, node: Node) -> None:
        """nginx sends requests to the node, which it leaves out for a moment after a failure."""
        before = len(self.nginx.log())
        await eventually(
            lambda: any(entry[5:] == [f"127.0.0.1:{node.port}"] for entry in self.nginx.log()[before:]), seconds=30
        )

    def failed_of_wrk(self) -> int:
        if self.wrk is None:
            return 0
        assert self.wrk.requests > 100
        return sum(self.wrk.failed.values())

    def have(self, number: int) -> bool:
        return all(number in received for received in self.received)

    async def _call(self) -> None:
        """Requests one after the other, on one connection to nginx: what became of each is counted."""
        async with httpx.AsyncClient(verify=self.nginx.tls, timeout=60) as client:
            while not self.stopping:
                try:
                    answer = await client.get(self.nginx.url("/docs"), headers={"X-Request-ID": "made-by-a-client"})
                    self.answers[str(answer.status_code)] += 1
                    self.ids.add(answer.headers["X-Request-ID"])
                except httpx.HTTPError as error:
                    self.answers[repr(error)] += 1

    async def _follow(self, received: list[int]) -> None:
        """One client of the stream, which comes back with the id of the last event that it has seen."""
        # HTTP/1.0 knows no chunks.
        last_id = ""
        while True:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.nginx.port, ssl=self.nginx.tls, ssl_handshake_timeout=60
            )
            try:
                resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
                writer.write(f"GET /api/v1/events HTTP/1.0\r\nHost: 127.0.0.1\r\n{resume}\r\n".encode())
                type = ""
                while line := await reader.readline():
                    name, _, value = line.decode().rstrip("\r\n").partition(": ")
                    if name == "id":
                        self.connects += not last_id
                        last_id = value
                    elif name == "event":
                        type = value
                    elif name == "data" and type == "tick":
                        received.append(json.loads(value)["data"])
                    elif not name:
                        type = ""
            finally:
                writer.close()


async def _publish(fleet: Fleet, numbers: range) -> list[str]:
    """A task and an event for each number."""
    receipts = []
    for number in numbers:
        receipts += await fleet.queue.submit([short.call(None)])
        await fleet.publisher.publish("broadcast", "tick", number)
    return [receipt.id for receipt in receipts]


async def _all_done(fleet: Fleet, tasks: list[str]) -> bool:
    return all([(await info_of(fleet.queue, each)).state == "done" for each in tasks])


@pytest.mark.parametrize("streams", SIZES)
async def test_a_rolling_restart_fails_no_request_and_loses_no_event_and_no_task(fleet: Fleet, streams: int) -> None:
    load = Load(fleet.nginx)
    async with load.running(streams=streams):
        tasks = await _publish(fleet, range(10))
        for number, node in enumerate(fleet.nodes):
            assert await asyncio.to_thread(node.stop) == 0
            tasks += await _publish(fleet, range(10 + 20 * number, 20 + 20 * number))
            await asyncio.to_thread(node.start)
            tasks += await _publish(fleet, range(20 + 20 * number, 30 + 20 * number))
            # It takes its share again before the other one stops.
            await load.reaches(node)
        await eventually(lambda: load.have(49), seconds=60)
    assert set(load.answers) == {"200"}
    assert load.failed_of_wrk() == 0
    # The ids are nginx' own.
    assert len(load.ids) == load.answers["200"]
    assert load.ids <= {entry[4] for entry in fleet.nginx.log()}
    assert all(received == list(range(50)) for received in load.received)
    await eventually(lambda: _all_done(fleet, tasks), seconds=60)


@pytest.mark.parametrize("streams", SIZES)
async def test_a_node_that_is_killed_fails_only_what_it_was_answering(fleet: Fleet, streams: int) -> None:
    load = Load(fleet.nginx)
    async with load.running(streams=streams):
        tasks = await _publish(fleet, range(10))
        await asyncio.to_thread(fleet.nodes[0].stop, with_signal=signal.SIGKILL)
        tasks += await _publish(fleet, range(10, 20))
        await eventually(lambda: load.have(19), seconds=60)
    failed = sum(amount for status, amount in load.answers.items() if status != "200")
    # A request a caller, at the most: nginx sends a GET to the other node where no byte of an answer has come.
    assert failed <= CALLERS, load.answers
    assert load.failed_of_wrk() <= WRK_CONNECTIONS
    assert all(sorted(set(received)) == list(range(20)) for received in load.received)
    await eventually(lambda: _all_done(fleet, tasks), seconds=60)
