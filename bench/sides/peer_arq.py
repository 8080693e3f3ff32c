"""arq, the server in REDIS_URL. It polls: with its own delay of 0.5 s it would take 320 tasks a second at most."""

from typing import Any

import uvloop
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker

from bench.queue_load import CONCURRENCY, TALLY, URL, finish, measure


async def noop(context: dict[Any, Any], number: int) -> int:
    TALLY()
    return number


async def main() -> None:
    pool = await create_pool(RedisSettings.from_dsn(URL))
    await pool.flushdb()
    worker = Worker([noop], redis_pool=pool, max_jobs=CONCURRENCY, poll_delay=0.005, handle_signals=False)
    finish(await measure(lambda number: pool.enqueue_job("noop", number), worker.async_run))


if __name__ == "__main__":
    uvloop.run(main())
