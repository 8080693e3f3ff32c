"""Flask-Caching, which knows no tags, called as Flask serves: by a thread for each caller."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import uvloop
from flask import Flask
from flask_caching import Cache

from bench.cached_calls import CALLERS, RECORDS, TTL_SECONDS, print_pages

app = Flask("bench")
cache = Cache(
    app,
    config={
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_URL": os.environ["REDIS_URL"],
        "CACHE_KEY_PREFIX": f"flask{os.getpid()}",
    },
)


@cache.memoize(timeout=TTL_SECONDS)
def untagged(number: int) -> object:
    return RECORDS


def in_context(number: int) -> object:
    with app.app_context():
        return untagged(number)


async def main() -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(CALLERS) as threads:
        await print_pages(lambda number: loop.run_in_executor(threads, in_context, number), None)


if __name__ == "__main__":
    uvloop.run(main())
