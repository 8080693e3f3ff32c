"""Requests to a served application, whose consumer has COUNT no-op tasks to run meanwhile.

8 connections ask for a limited and cached page, each again 10 ms after its answer.
"""

import asyncio
import json
import os
import statistics
import time

import uvloop

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.tasks.queue import Queue
from bench.rounds import ROOT
from bench.sides.tasks_web_server import noop
from tests.commands import serving

CONNECTIONS = 8
PAUSE_SECONDS = 0.01
WARM_UP_SECONDS, SECONDS = 1.0, 5.0
REQUEST = b"GET /cached HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def ask(port: int, until: float, took: list[float]) -> None:
    """Append how long each request took, in seconds. RuntimeError for an answer other than 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(length.partition(b":")[2]))
        took.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_SECONDS)
    writer.close()


async def ask_all(port: int, seconds: float) -> list[float]:
    took: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(ask(port, until, took) for _ in range(CONNECTIONS)))
    return sorted(took)


async def main() -> None:
    count, namespace = int(os.environ["COUNT"]), f"bench{os.getpid()}"
    settings = {name: os.environ[name] for name in ("REDIS_URL", "DATABASE_URL", "LOG_LEVEL")}
    redis = connect(settings["REDIS_URL"], name="bench", timeout_seconds=30)
    queue = Queue(redis, Keys(namespace))
    for start in range(0, count, 10_000):
        await queue.submit([noop.call(number) for number in range(start, start + 10_000)])
    settings |= {"NAMESPACE": namespace, "TASK_GRACE_SECONDS": "1"}
    with serving(settings, ROOT, "-m", "bench.sides.tasks_web_server") as (_, port):
        await ask_all(port, WARM_UP_SECONDS)
        before = (await queue.totals())["done"]
        took = await ask_all(port, SECONDS)
        done, left = (await queue.totals())["done"], (await queue.depth())["normal"]
    await redis.flushdb()
    await redis.aclose()
    if count and not left:
        raise RuntimeError("all tasks were done before the last request")
    figures = {
        "ms a request, median": statistics.median(took) * 1000,
        "ms a request, p99": took[len(took) * 99 // 100] * 1000,
    }
    print(json.dumps(figures | {"tasks/s meanwhile": (done - before) / SECONDS, "requests/s": len(took) / SECONDS}))


if __name__ == "__main__":
    uvloop.run(main())
