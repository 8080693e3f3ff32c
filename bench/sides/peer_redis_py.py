"""redis-py's own asynchronous client."""

import os

import uvloop
from redis.asyncio import Redis

from bench.gets import KEY, VALUE, print_gets


async def main() -> None:
    redis = Redis.from_url(os.environ["REDIS_URL"])
    await redis.set(KEY, VALUE)
    await print_gets(redis.get)
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
