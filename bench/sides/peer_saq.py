"""SAQ, the server in REDIS_URL."""

import os
from typing import Any

import uvloop
from saq import Queue, Worker

from bench.queue_load import CONCURRENCY, TALLY, URL, finish, measure


async def noop(context: dict[str, Any], *, number: int) -> int:
    TALLY()
    return number


async def main() -> None:
    queue = Queue.from_url(URL, name=f"bench{os.getpid()}")
    worker = Worker(queue, functions=[noop], concurrency=CONCURRENCY)
    finish(await measure(lambda number: queue.enqueue("noop", number=number), worker.start))


if __name__ == "__main__":
    uvloop.run(main())
