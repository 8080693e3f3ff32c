"""What many clients do to a serving process: its descriptors, its memory, the others' requests, and its stop."""

import asyncio
import os
import random
import shlex
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.handle import Handle
from app.kit.tasks.info import TaskInfo
from app.kit.tasks.queue import Queue
from tests.commands import serving
from tests.faults.tasks import ENDLESS, SHORT
from tests.http.wire import converse
from tests.kit.tasks.task_worker import in_state, info_of
from tests.services import RedisServer
from tests.serving.slow_clients import ASK, LIVE, slow_clients, times_of_others
from tests.waiting import eventually

# Of open files, as many systems have it.
FEW_FILES = "ulimit -n 1024; exec {python} -m app.cli serve"
# What a task of the schedule opens meanwhile: the files of the database.
ROOM = 10
# The drain, the graceful timeout and the tasks' grace (2 s together), with room for a loaded machine.
STOP_SECONDS = 18
SHORT_TASKS = 4


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("amount", [1000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_connections_that_come_and_go_leave_nothing_at_few_open_files(
    embedded: dict[str, str], tmp_path: Path, amount: int
) -> None:
    """Faster than a minute would be: each is refused by nobody, and its descriptor comes back."""
    script = FEW_FILES.format(python=shlex.quote(sys.executable))
    command = ("-c", f"import os; os.execvp('sh', ['sh', '-c', {script!r}])")
    with serving(embedded | {"LOG_LEVEL": "error"}, tmp_path, *command) as (process, port):
        assert (await converse(port, ASK, seconds=60)).statuses == [200]
        before = descriptors(process.pid)
        room = asyncio.Semaphore(50)

        async def visit(number: int) -> int:
            async with room:
                if number % 3:
                    return (await converse(port, ASK, seconds=60)).statuses[0]
                # Without a request, or with one whose answer is not waited for.
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(LIVE + b"\r\n" if number % 2 else b"")
                writer.close()
                await writer.wait_closed()
                return 200

        statuses = [await each for each in asyncio.as_completed([visit(number) for number in range(amount)])]
        assert set(statuses) == {200}
        await eventually(lambda: descriptors(process.pid) <= before + ROOM, seconds=60)


@pytest.mark.parametrize(
    ("heads", "bodies", "streams", "seconds"),
    [(200, 20, 50, 15), pytest.param(2000, 200, 500, 45, marks=pytest.mark.long)],
)
async def test_clients_that_are_slow_take_nothing_from_the_others_and_are_gone_after_their_limits(
    embedded: dict[str, str], sqlite_template: Path, tmp_path: Path, heads: int, bodies: int, streams: int, seconds: int
) -> None:
    shutil.copy(sqlite_template, tmp_path / "walk.db")
    settings = embedded | {
        "HEADER_TIMEOUT_SECONDS": str(seconds),
        "SEND_TIMEOUT_SECONDS": str(seconds),
        "MAX_CONNECTIONS_PER_ADDRESS": "10000",
        "LOG_LEVEL": "warning",
    }
    with serving(settings, tmp_path, "-m", "app.cli", "serve") as (process, port):
        await times_of_others(port)
        # What the first requests load stays.
        before, open_before = resident_bytes(process.pid), descriptors(process.pid)
        async with slow_clients(port, heads=heads, bodies=bodies, streams=streams) as ended:
            # Some bodies are answered at once: guesses at passwords are limited.
            await eventually(lambda: descriptors(process.pid) > open_before + heads, seconds=60)
            # How long these take is a figure of `python -m bench slow_clients`.
            assert len(await times_of_others(port)) == 100
            # Of the streams that are not read some are cut by the kernel before.
            assert descriptors(process.pid) > open_before + heads
            peak = resident_bytes(process.pid)
            await eventually(lambda: descriptors(process.pid) <= open_before + ROOM, seconds=90)
        assert peak - before < 50_000_000 + 200_000 * (heads + bodies + streams)
    answers = Counter(answer[:12] for answer in ended)
    assert set(answers) <= {b"HTTP/1.1 408", b"HTTP/1.1 429"}
    assert answers[b"HTTP/1.1 408"] > heads


@dataclass
class Callers:
    """Clients of one server that ask without a pause; each answer is whole, and to its own request."""

    port: int
    answered: int = 0
    broken: list[str] = field(default_factory=list)
    stopping: bool = False

    async def call(self, name: int) -> None:
        number = 0
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if self.stopping:
                    return
                self.broken.append("refused before the stop")
                return
            try:
                while await self._ask(reader, writer, f"{name:04}-{(number := number + 1):06}"):
                    pass
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request_id: str) -> bool:
        """Whether the connection goes on."""
        head = b""
        try:
            writer.write(LIVE + b"X-Request-ID: " + request_id.encode() + b"\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(21)
        except (OSError, asyncio.IncompleteReadError) as error:
            partial = head or getattr(error, "partial", b"")
            if partial:
                self.broken.append(f"cut: {partial!r}")
            elif not self.stopping:
                self.broken.append(f"closed before the stop: {error!r}")
            return False
        if (
            not head.startswith(b"HTTP/1.1 200 ")
            or request_id.encode() not in head
            or body != b'{"status":"healthy"}\n'
        ):
            self.broken.append(f"not its answer: {head!r}")
        self.answered += 1
        if b"connection: close" in head.lower():
            if rest := await reader.read():
                self.broken.append(f"two answers: {rest!r}")
            return False
        return True


@asynccontextmanager
async def streams(port: int, amount: int) -> AsyncIterator[list["asyncio.Task[bytes]"]]:
    """Event streams whose clients know where to resume, as tasks that end when they end."""
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(amount)]
    for _, writer in connections:
        writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for reader, _ in connections:
        await reader.readuntil(b"id: ")
    yield [asyncio.ensure_future(reader.read()) for reader, _ in connections]
    for _, writer in connections:
        writer.close()


@pytest.mark.server
@pytest.mark.parametrize(("times", "open_streams"), [(5, 50), pytest.param(50, 500, marks=pytest.mark.long)])
async def test_a_stop_at_any_moment_under_load_loses_nothing(
    redis_server: RedisServer,
    real_redis: Redis,
    keys: Keys,
    sqlite_template: Path,
    tmp_path: Path,
    times: int,
    open_streams: int,
) -> None:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    settings = {
        "REDIS_URL": redis_server.url,
        "NAMESPACE": keys.namespace,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        "TASK_GRACE_SECONDS": "1",
        "DRAIN_SECONDS": "0.5",
        # Answers are told apart by the ids of their requests.
        "TRUSTED_PROXIES": "127.0.0.1",
        "LOG_LEVEL": "warning",
    }
    chance = random.Random(16)
    queue = Queue(real_redis, keys)
    stay = await queue.submit([task.call() for task in ENDLESS])
    given: list[Handle] = []
    command = ("-m", "tests.faults.served_tasks")
    for _ in range(times):
        with serving(settings, tmp_path, *command) as (process, port):
            for handle in stay:
                await in_state(queue, handle.id, "running")
            callers = Callers(port)
            async with streams(port, open_streams) as opened:
                calling = [asyncio.create_task(callers.call(number)) for number in range(8)]
                given += await queue.submit([task.call() for task in SHORT for _ in range(SHORT_TASKS)])
                await asyncio.sleep(chance.uniform(0, 1))
                callers.stopping = True
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, STOP_SECONDS) == 0
                await asyncio.gather(*calling)
                await asyncio.gather(*opened)
        assert callers.broken == []
        assert callers.answered
        for handle in stay:
            info = await info_of(queue, handle.id)
            assert (info.name, *_spent(info)) == (info.name, "queued", 0, 0)
        # Not begun, or given back at the stop: the attempt is not spent.
        assert {_spent(await info_of(queue, handle.id)) for handle in given} <= {("done", 1, 0), ("queued", 0, 0)}
    with serving(settings, tmp_path, *command):
        for handle in given:
            async with asyncio.timeout(300):
                assert await handle.wait() == "finished"
            assert _spent(await info_of(queue, handle.id)) == ("done", 1, 0)


def _spent(info: TaskInfo) -> tuple[str, int, int]:
    return info.state, info.attempts, info.deaths
