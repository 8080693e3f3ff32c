"""What each side of the tasks' benchmark is put through. Needs no package: peers import it in their environment."""

import asyncio
import json
import os
import re
import socket
import statistics
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

CONCURRENCY = 32
WAKES = int(os.environ.get("WAKES", "50"))
# An idle worker waits again after so long.
SETTLE_SECONDS = 0.02
URL = os.environ.get("REDIS_URL", "")
COUNT = int(os.environ.get("COUNT", "1000"))

Figures = dict[str, float]


class Tally:
    """Counts the tasks that run, and notes when the first and the last of COUNT did."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.woken = threading.Event()
        self.at = 0.0
        self.first_at = 0.0
        self._count = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self._count += 1
            self.at = time.perf_counter()
            if self._count == 1:
                self.first_at = self.at
            if self._count == COUNT:
                self.done.set()
            self.woken.set()

    def rate(self) -> float:
        """Tasks a second between the first and the last: a worker's start is not measured."""
        return (COUNT - 1) / (self.at - self.first_at)


TALLY = Tally()


def count_task(number: int) -> int:
    """The task of the sides whose handlers are plain functions."""
    TALLY()
    return number


async def measure(enqueue: Callable[[int], Awaitable[Any]], work: Callable[[], Awaitable[Any]]) -> Figures:
    """Enqueue COUNT tasks one by one from 32 coroutines; `work` them off until cancelled; then wake the idle worker."""
    numbers = iter(range(COUNT))
    began = time.perf_counter()
    await asyncio.gather(*(_enqueue_all(enqueue, numbers) for _ in range(CONCURRENCY)))
    enqueued = COUNT / (time.perf_counter() - began)
    before = round_trips()
    async with _running(work):
        await asyncio.to_thread(TALLY.done.wait)
        rate, trips = TALLY.rate(), (round_trips() - before) / COUNT
        wakes = []
        for number in range(WAKES):
            await asyncio.sleep(SETTLE_SECONDS)
            TALLY.woken.clear()
            began = time.perf_counter()
            await enqueue(number)
            await asyncio.to_thread(TALLY.woken.wait)
            wakes.append(TALLY.at - began)
        return figures(rate, enqueued, trips, wakes)


def measure_threads(enqueue: Callable[[int], Any], work: Callable[[], Any]) -> None:
    """The same for a worker that blocks the main thread. One thread enqueues: several of one process are no faster."""
    began = time.perf_counter()
    for number in range(COUNT):
        enqueue(number)
    enqueued = COUNT / (time.perf_counter() - began)
    before = round_trips()

    def control() -> None:
        TALLY.done.wait()
        rate, trips = TALLY.rate(), (round_trips() - before) / COUNT
        wakes = []
        for number in range(WAKES):
            time.sleep(SETTLE_SECONDS)
            TALLY.woken.clear()
            began = time.perf_counter()
            enqueue(number)
            TALLY.woken.wait()
            wakes.append(TALLY.at - began)
        finish(figures(rate, enqueued, trips, wakes))

    threading.Thread(target=control, daemon=True).start()
    work()


def figures(rate: float, enqueued: float, trips: float, wakes: Sequence[float]) -> Figures:
    found = {"tasks/s": rate, "enqueues/s": enqueued, "round trips a task": trips}
    return found | ({"ms to wake an idle worker": statistics.median(wakes) * 1000} if wakes else {})


def finish(found: Figures) -> None:
    """Print, and end at once: how long a worker takes to stop is not measured."""
    print(json.dumps(found), flush=True)
    os._exit(0)


def round_trips() -> int:
    """How often the server has read from its clients: what a client sends at once, such as a pipeline, counts once."""
    address = urlsplit(URL)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(b"INFO stats\r\n")
        text = b""
        while not text.endswith(b"\r\n") or b"total_reads_processed" not in text:
            text += connection.recv(65536)
    found = re.search(rb"total_reads_processed:(\d+)", text)
    assert found is not None
    return int(found[1])


async def _enqueue_all(enqueue: Callable[[int], Awaitable[Any]], numbers: Iterable[int]) -> None:
    for number in numbers:
        await enqueue(number)


@asynccontextmanager
async def _running(work: Callable[[], Awaitable[Any]]) -> AsyncGenerator[None, None]:
    task = asyncio.ensure_future(work())
    # A worker that fails must not leave the benchmark waiting.
    task.add_done_callback(lambda ended: None if ended.cancelled() or not ended.exception() else _fail(ended))
    yield


def _fail(ended: "asyncio.Future[Any]") -> None:
    print(repr(ended.exception()), flush=True)
    os._exit(1)
