"""streaq, the server in REDIS_URL."""

import os

import uvloop
from streaq import Worker

from bench.queue_load import CONCURRENCY, TALLY, URL, finish, measure

NAME = f"bench{os.getpid()}"
# Only a worker that was entered enqueues, and none is entered twice: one enqueues, and one works.
producer = Worker(redis_url=URL, queue_name=NAME, handle_signals=False)
worker = Worker(redis_url=URL, concurrency=CONCURRENCY, queue_name=NAME, handle_signals=False)


async def noop(number: int) -> int:
    TALLY()
    return number


enqueued = producer.task(noop)
worker.task(noop)


async def enqueue(number: int) -> None:
    await enqueued.enqueue(number)


async def main() -> None:
    async with producer:
        finish(await measure(enqueue, worker.run_async))


if __name__ == "__main__":
    uvloop.run(main())
