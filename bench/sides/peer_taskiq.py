"""taskiq, the server in REDIS_URL, with its broker over a list or, with BROKER=stream, over a stream."""

import os

import uvloop
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from bench.queue_load import CONCURRENCY, TALLY, URL, finish, measure

NAME = f"bench{os.getpid()}"
KIND = RedisStreamBroker if os.environ["BROKER"] == "stream" else ListQueueBroker
broker = KIND(URL, queue_name=NAME).with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=3600))


@broker.task
async def noop(number: int) -> int:
    TALLY()
    return number


async def main() -> None:
    await broker.startup()
    finish(await measure(noop.kiq, lambda: run_receiver_task(broker, max_async_tasks=CONCURRENCY)))


if __name__ == "__main__":
    uvloop.run(main())
